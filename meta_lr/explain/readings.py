"""What the network of a self-tuning schedule read in a replay: each step again, one by one."""

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
    """One step: what the network read, and what it remembered when it did.

    Attributes:
        moment: The loss and the signals of the step, as numbers.
        features: Their values, in the units of the features, (inputs,).
        memory: Of the network, before it read them.
        scale: The integrator's numbers, before the step that follows.
    """

    moment: Moment
    features: Tensor
    memory: Tensors
    scale: tuple[float, ...]


def readings(schedule: SelfTuning, replayed: Replay) -> list[Reading]:
    """Return what the network read at each step but the last one, whose answer has no step."""
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
    """Return features (..., inputs) as the network reads them: each times its factor."""
    return features * torch.tensor([*schedule.inputs.values()], dtype=torch.float64)


def outputs(schedule: SelfTuning, reading: Reading, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the direct term and the increment for other features at a step, each (rows,).

    Args:
        schedule: Its network answers.
        reading: The step; its memory is left as it is.
        features: In the units of the features, (rows, inputs).
    """
    rows = scaled(schedule, features).to(schedule.weights[0])
    answer = vmap(lambda row: schedule.net.scores(schedule.weights, row, reading.memory)[0])
    direct, increment = answer(rows).double().unbind(1)
    return direct, increment


def steps_of(replays: Sequence[Sequence[Reading]], most: int) -> list[Reading]:
    """Return at most so many steps of each replay, evenly spaced."""
    return [found[i] for found in replays for i in range(0, len(found), -(-len(found) // most))]
