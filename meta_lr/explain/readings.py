"""The inputs of a self-tuning schedule's network in a replay, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from meta_lr.explain.replay import Replay
from meta_lr.methods.features.feature import Moment
from meta_lr.methods.self_tuning.schedule import SelfTuning
from meta_lr.optim.signals import signals_of
from meta_lr.vectors import Tensors


@dataclass(frozen=True)
class Reading:
    """One step: the inputs of the network, and its memory before it reads them.

    Attributes:
        moment: The loss and the signals of the step, as numbers.
        features: Values of the features, in their units, (inputs,).
        memory: Memory of the network, before it reads the features.
        scale: The integrator's numbers, before the next step.
    """

    moment: Moment
    features: Tensor
    memory: Tensors
    scale: tuple[float, ...]


def readings(schedule: SelfTuning, replayed: Replay) -> list[Reading]:
    """Return the reading of each step except the last one, whose output is not used."""
    read, kept = schedule.features.fold(), schedule.features.init()
    scores, memory = schedule.net.fold_scores(schedule.weights), schedule.net.memory()
    total_steps, found = len(replayed.losses), []
    for step, state in enumerate(replayed.states[:-1]):
        loss, *totals = state.last
        now = Moment(loss, step, total_steps, signals_of(totals))
        values = read(loss, step, total_steps, kept, now.signals)
        features = torch.tensor(values, dtype=torch.float64).reshape(-1)
        before = tuple(part.clone() for part in memory)
        found.append(Reading(now, features, before, state.scale))
        scores(scaled(schedule, features).tolist(), memory)
    return found


def scaled(schedule: SelfTuning, features: Tensor) -> Tensor:
    """Return features (..., inputs) in the form that the network reads: each times its factor."""
    return features * torch.tensor([*schedule.inputs.values()], dtype=torch.float64)


def outputs(schedule: SelfTuning, reading: Reading, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the direct term and the increment for other features at a step, each (rows,).

    These features are in their units, (rows, inputs). The memory in the reading does not change.
    """
    rows = scaled(schedule, features).to(schedule.weights[0])
    answer = vmap(lambda row: schedule.net.scores(schedule.weights, row, reading.memory)[0])
    direct, increment = answer(rows).double().unbind(1)
    return direct, increment


def steps_of(replays: Sequence[Sequence[Reading]], most: int) -> list[Reading]:
    """Return at most `most` steps of each replay, evenly spaced."""
    return [found[i] for found in replays for i in range(0, len(found), -(-len(found) // most))]
