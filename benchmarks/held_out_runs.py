"""Learned schedules and cosines on inner problems: their final losses and learning rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from meta_lr.bilevel.baseline import PEAKS, PeakedCosine
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.meta_training import final_losses
from meta_lr.bilevel.problems import Problem, Problems
from meta_lr.bilevel.schedules import Schedule, Seen
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.vectors import Tensors

WORST = 3.0  # log of the loss of a diverged run; an upper bound for all other runs
Candidates: TypeAlias = Sequence[tuple[Tensor, ...]]
Run: TypeAlias = Callable[[Problem, Schedule, Candidates], Tensor]


class Finals(NamedTuple):
    """Logs of the final `val` losses, nats, averaged over the seeds of each problem."""

    learned: Tensor  # (checkpoints, problems)
    cosines: Tensor  # (peaks, problems)
    num_diverged: list[int]  # runs of each checkpoint, at most problems x seeds


class RecordedState(NamedTuple):
    """A schedule's own state, and its last learning rate."""

    own: Any
    lr: Tensor


class Recorded:
    """A schedule whose state holds its last learning rate."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def init(self) -> RecordedState:
        return RecordedState(self.schedule.init(), torch.tensor(0.0))

    def side_by_side(
        self, weights: Tensors, seen: Seen, state: RecordedState
    ) -> tuple[Tensor, RecordedState]:
        lr, own = self.schedule.side_by_side(weights, seen, state.own)
        return lr, RecordedState(own, lr)


def rates(problem: Problem, schedule: Schedule, candidates: Candidates) -> Tensor:
    """Return the learning rates along a problem, in plain SGD's unit, (steps, candidates)."""
    copies = Copies(problem, Recorded(schedule), len(candidates))
    phi = tuple(torch.stack(weights) for weights in zip(*candidates, strict=True))
    point, rows = copies.start(), []
    for step in range(problem.total_steps):
        point = copies.run(point, phi, step, 1)
        rows.append(point.state.lr)
    return torch.stack(rows)


def losses(problem: Problem, schedule: Schedule, candidates: Candidates) -> Tensor:
    """Return the final `val` losses, (candidates,)."""
    return torch.tensor(final_losses(problem, schedule, candidates))


def logs(found: Tensor) -> Tensor:
    """Return the logarithms of losses; `WORST` replaces those that are not finite or too large."""
    return found.log().nan_to_num(nan=WORST, posinf=WORST).clamp(max=WORST)


def learned(run: Run, problem: Problem, checkpoints: Sequence[Learned]) -> Tensor:
    """Return the results of `run`, (..., checkpoints); those of one kind run side by side."""
    kinds: dict[str, list[int]] = {}
    for place, one in enumerate(checkpoints):
        kind = {part.name: getattr(one, part.name) for part in fields(one) if part.name != "stages"}
        kinds.setdefault(repr(kind), []).append(place)
    found = [
        run(problem, checkpoints[places[0]], [tuple(checkpoints[i].stages[0]) for i in places])
        for places in kinds.values()
    ]
    order = torch.tensor([place for places in kinds.values() for place in places])
    return torch.cat(found, -1)[..., order.argsort()]


def cosines(run: Run, problem: Problem, peaks: Sequence[float] = PEAKS) -> Tensor:
    """Return the results of `run` for cosines, (..., peaks)."""
    return run(problem, PeakedCosine(), [(torch.tensor(peak),) for peak in peaks])


def finals(
    problems: Problems, numbers: Sequence[int], seeds: int, checkpoints: Sequence[Learned]
) -> Finals:
    """Train each of the problems with these numbers with each checkpoint and each cosine."""
    ours, theirs = [], []
    for number in numbers:
        runs = [problems(number, seed) for seed in range(seeds)]
        ours.append(torch.stack([learned(losses, problem, checkpoints) for problem in runs]))
        theirs.append(torch.stack([logs(cosines(losses, problem)) for problem in runs]))
    every = torch.stack(ours)  # (problems, seeds, checkpoints)
    diverged = (~every.isfinite()).sum((0, 1)).tolist()
    return Finals(logs(every).mean(1).T, torch.stack(theirs).mean(1).T, diverged)


def tuned(problems: Sequence[Problem]) -> tuple[int, float]:
    """Return the index in `PEAKS` of the best peak for all, and the cost of finding it."""
    found = torch.stack([logs(cosines(losses, problem)) for problem in problems])
    cost = len(PEAKS) * sum(problem.total_steps for problem in problems)
    return int(found.mean(0).argmin()), float(cost)


def schedules(
    problem: Problem, ways: Mapping[str, Sequence[Learned]], peaks: Mapping[str, float]
) -> dict[str, Tensor]:
    """Return the learning rates along one problem by name, each (steps, meta-training seeds)."""
    ours = learned(rates, problem, [one for seeds in ways.values() for one in seeds])
    parts = ours.split([len(seeds) for seeds in ways.values()], -1)
    bars = cosines(rates, problem, list(peaks.values())).split(1, -1)
    return {**dict(zip(ways, parts, strict=True)), **dict(zip(peaks, bars, strict=True))}
