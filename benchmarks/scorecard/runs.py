"""The runs of a scorecard: tuned cosines and learned schedules, kept as they come."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.scorecard import families
from meta_lr.bilevel.copies import Copies, Schedule
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.varied import VariedProblems
from meta_lr.schedulers.annealing import cosine_share
from meta_lr.schedulers.learned import LearnedState
from meta_lr.schedulers.network import Tensors
from meta_lr.schedulers.seen import Seen
from meta_lr.schedulers.self_tuning import SelfTuning

CHOOSING, SCORING = (0, 1, 2), (3, 4, 5)  # seeds that choose the oracle's peak, and that score it
WARM_UP = 0.05  # share of the run in which the tuned schedules rise from zero
WORST = 3.0  # nats above the loss at the start: what a diverged run counts as
TRAINING = "training"  # the family of meta-training, on which the one global peak is chosen
_GRID, _STEP = range(8), 0.5  # the first peaks; decades between two
_LOWEST, _MOST = -2.5, 8  # decade of the first peak, in plain SGD's unit; extensions of a grid

Key = tuple[str, int, str]  # family, number of the problem, name of the method


class Tuned:
    """A warm-up, then a cosine or a line to zero: weights are the peak and 1 for a line."""

    def init(self) -> LearnedState:
        """Return an empty memory."""
        return LearnedState(())

    def side_by_side(
        self, weights: Tensors, seen: Seen, state: LearnedState
    ) -> tuple[Tensor, LearnedState]:
        """Return the learning rates (copies,)."""
        step, total = seen.step, seen.total_steps
        cosine, line = cosine_share(step, total), 1 - step / total
        share = cosine + weights[1] * (line - cosine)
        return weights[0] * share * min(1.0, (step + 1) / (WARM_UP * total)), state


@dataclass(frozen=True)
class Runs:
    """The rows of a scorecard in one file; whatever is in it is not run again.

    Args:
        path: A file of JSON lines, made if missing.
    """

    path: Path

    def rows(self) -> dict[Key, dict[str, Any]]:
        """Return all rows so far; a last line that was cut off is left out."""
        if not self.path.exists():
            return {}
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        found = [json.loads(line) for line in lines]
        return {(row["family"], row["number"], row["method"]): row for row in found}

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def cut(self) -> None:
        """Remove a last line that was cut off."""
        if self.path.exists():
            data = self.path.read_bytes()
            self.path.write_bytes(data[: data.rfind(b"\n") + 1])


def asked(numbers: Sequence[int], schedules: Mapping[str, SelfTuning]) -> Iterator[Key]:
    """Yield what a scorecard consists of, problem by problem, so that all families grow alike."""
    for number in numbers:
        for family in (TRAINING, *families.FAMILIES):
            yield family, number, "tuned"
            if family != TRAINING:
                yield from ((family, number, name) for name in schedules)


def run(key: Key, schedules: Mapping[str, SelfTuning]) -> dict[str, Any]:
    """Return the row of one problem and method."""
    family, number, method = key
    seeds = CHOOSING + SCORING if method == "tuned" else SCORING
    problems = [made(family, number, seed) for seed in seeds]
    row = {"family": family, "number": number, "method": method, "steps": problems[0].total_steps}
    if method == "tuned":
        return {**row, "unit": problems[0].unit, **tuned(problems)}
    schedule = schedules[method]
    phi = tuple(weight[None] for weight in schedule.weights)
    logs = [ends(problem, schedule, phi)[0] for problem in problems]
    return {**row, "fingerprint": schedule.fingerprint, "logs": logs}


def made(family: str, number: int, seed: int) -> Problem:
    """Return a problem of meta-training, or of a held-out family."""
    if family != TRAINING:
        return families.problem(family, number, seed)
    return VariedProblems()(number, seed)._replace(family=TRAINING)


def tuned(problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the final losses of all peaks: lists by seed, (peaks,) of cosines and of lines.

    The grid grows until neither shape's best mean over the choosing seeds is at an edge.
    """
    grid = [_LOWEST + _STEP * i for i in _GRID]
    found = [shapes(problem, grid) for problem in problems]
    for _ in range(_MOST):
        edge = _edge(grid, torch.tensor(found)[: len(CHOOSING)].mean(0))
        if edge is None:
            break
        more = [shapes(problem, [edge]) for problem in problems]
        low = edge < grid[0]
        grid = [edge, *grid] if low else [*grid, edge]
        found = [
            [[*new, *old] if low else [*old, *new] for old, new in zip(a, b, strict=True)]
            for a, b in zip(found, more, strict=True)
        ]
    return {"decades": grid, "cosine": [one[0] for one in found], "line": [one[1] for one in found]}


def _edge(grid: Sequence[float], means: Tensor) -> float | None:
    """Return the peak to try next, as a decade, if a best mean (shapes, peaks) is at an edge."""
    best = means.argmin(1).tolist()
    if 0 in best:
        return grid[0] - _STEP
    return grid[-1] + _STEP if len(grid) - 1 in best else None


def shapes(problem: Problem, decades: Sequence[float]) -> list[list[float]]:
    """Return the log of the final loss of cosines and of lines at these peaks."""
    peaks = torch.tensor([10.0**decade * problem.unit for decade in decades])
    kinds = torch.tensor([0.0, 1.0]).repeat_interleave(len(peaks))
    logs = ends(problem, Tuned(), (peaks.repeat(2), kinds))
    return [logs[: len(peaks)], logs[len(peaks) :]]


def ends(problem: Problem, schedule: Schedule, phi: Tensors) -> list[float]:
    """Return the log of each copy's final `val` loss; a diverged one is `WORST` above the start."""
    copies = Copies(problem, schedule, len(phi[0]))
    start = copies.start()
    worst = math.log(copies.mean_loss(start, "val")[0].item()) + WORST
    logs = copies.mean_loss(copies.run(start, phi, 0, problem.total_steps), "val").log()
    return logs.nan_to_num(nan=worst, posinf=worst).clamp(max=worst).tolist()
