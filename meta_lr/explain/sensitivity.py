"""Sensitivity of a self-tuning schedule: its response to a change of one feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from meta_lr.explain.readings import Reading, outputs, steps_of
from meta_lr.methods.features.arithmetic import TENSORS
from meta_lr.methods.self_tuning.integrator import Scale
from meta_lr.methods.self_tuning.schedule import SelfTuning

STEPS = 100  # steps of each replay at which the features are varied
ALIKE = 0.8  # smallest share of effects in one direction minus the other, for a sign


@dataclass(frozen=True)
class Effect:
    """The effect of one feature on the learning rate, between a low and a high value of it.

    Attributes:
        feature: Name of the feature.
        change: Half of the difference of the two values: a standard deviation over the replays.
        growth: Half of the change of the learning rate's growth, e-folds per 1 % of the run.
        direct: Half of the change of the learning rate at the step itself, e-folds.
        growth_sign: 1 if a larger feature means more growth at nearly all steps; -1 if it means
            less growth; else 0.
        direct_sign: The same for the direct term.
    """

    feature: str
    change: float
    growth: float
    direct: float
    growth_sign: int
    direct_sign: int


def effects(schedule: SelfTuning, replays: Sequence[Sequence[Reading]]) -> list[Effect]:
    """Return the effect of each feature, the largest one on growth first.

    Each feature is varied separately, by one standard deviation up and down from its value at a
    step. The bounds of the integrator are applied.
    """
    change = torch.cat([torch.stack([r.features for r in found]) for found in replays]).std(0)
    parts = [_answers(schedule, reading, change) for reading in steps_of(replays, STEPS)]
    growth, direct = (torch.stack(part) for part in zip(*parts, strict=True))
    columns = zip(schedule.features.names, change, growth.unbind(1), direct.unbind(1), strict=True)
    found = [
        Effect(name, float(by), _size(more), _size(now), _sign(more), _sign(now))
        for name, by, more, now in columns
    ]
    return sorted(found, key=lambda effect: -effect.growth)


def _answers(schedule: SelfTuning, reading: Reading, change: Tensor) -> tuple[Tensor, Tensor]:
    """Return half of the change of growth and of the direct term, by feature, each (inputs,)."""
    up = reading.features + torch.diag(change)
    rows = torch.cat([up, 2 * reading.features - up, reading.features[None]])
    direct, increment = outputs(schedule, reading, rows)
    grown = _integrated(schedule, reading, direct[-1].expand_as(direct), increment)[1]
    now = _integrated(schedule, reading, direct, increment[-1].expand_as(direct))[0]
    pairs = (x[:-1].chunk(2) for x in (grown, now.log()))  # at a high and at a low value
    growth, at_once = ((high - low) / 2 for high, low in pairs)
    return growth * reading.moment.total_steps / 100, at_once


def _integrated(
    schedule: SelfTuning, reading: Reading, direct: Tensor, increment: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the learning rates and the logarithms of the scale after a step, each (rows,)."""
    spread = torch.zeros_like(direct)
    at = Scale(*(spread + number for number in reading.scale))
    loss, signals = reading.moment.loss, reading.moment.signals
    assert signals is not None
    moment = reading.moment._replace(
        loss=spread + loss, signals=type(signals)(*(spread + value for value in signals))
    )
    lr, after = schedule.integrator.step(TENSORS, at, moment, direct, increment)
    return lr, after.scale


def _size(values: Tensor) -> float:
    return float(values.abs().mean())


def _sign(values: Tensor) -> int:
    mean = float(values.mean())
    return 0 if abs(mean) <= ALIKE * _size(values) else 1 if mean > 0 else -1
