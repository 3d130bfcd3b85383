"""Tuned schedules: cosines and lines to zero after a warm-up, at a grid of peaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.scorecard.finals import bound, finals
from benchmarks.scorecard.problems import CHOOSING
from meta_lr.annealing import cosine_share
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.schedules import Seen
from meta_lr.protocol import NoState
from meta_lr.vectors import Tensors

WARM_UP = 0.05  # share of the run in which the schedules rise from zero
SHAPES = ("cosine", "line")
AVERAGED = " + average"  # appended to the name of a method that is evaluated at its average
CURVES = (*SHAPES, *(shape + AVERAGED for shape in SHAPES))
_GRID, _STEP = range(8), 0.5  # the first peaks; decades between two
_LOWEST, _MOST = -2.5, 8  # decade of the first peak, in plain SGD's unit; most extensions


class Tuned:
    """A warm-up, then a cosine or a line to zero; the weights are the peak, and 1 for a line."""

    def init(self) -> NoState:
        """Return an empty state."""
        return NoState()

    def side_by_side(self, weights: Tensors, seen: Seen, state: NoState) -> tuple[Tensor, NoState]:
        """Return the learning rates (copies,)."""
        step, total = seen.step, seen.total_steps
        cosine, line = cosine_share(step, total), 1 - step / total
        share = cosine + weights[1] * (line - cosine)
        return weights[0] * share * min(1.0, (step + 1) / (WARM_UP * total)), state


def tuned(problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the final losses at all peaks: for each of `CURVES`, one list (peaks,) per seed.

    The grid grows until no curve's best mean over the choosing seeds is at an edge.
    """
    grid = [_LOWEST + _STEP * i for i in _GRID]
    found = [curves(problem, grid) for problem in problems]
    for _ in range(_MOST):
        edge = _edge(grid, torch.tensor(found)[: len(CHOOSING)].mean(0))
        if edge is None:
            break
        more = [curves(problem, [edge]) for problem in problems]
        low = edge < grid[0]
        grid = [edge, *grid] if low else [*grid, edge]
        found = [
            [[*new, *old] if low else [*old, *new] for old, new in zip(a, b, strict=True)]
            for a, b in zip(found, more, strict=True)
        ]
    by_name = {name: [one[i] for one in found] for i, name in enumerate(CURVES)}
    return {"decades": grid, **by_name, "worst": [bound(problem) for problem in problems]}


def curves(problem: Problem, decades: Sequence[float]) -> list[list[float]]:
    """Return the log of the final loss at these peaks, for each of `CURVES`."""
    peaks = torch.tensor([10.0**decade * problem.unit for decade in decades])
    kinds = torch.tensor([0.0, 1.0]).repeat_interleave(len(peaks))
    logs, averaged, _ = finals(problem, Tuned(), (peaks.repeat(2), kinds))
    count = len(peaks)
    return [logs[:count], logs[count:], averaged[:count], averaged[count:]]


def _edge(grid: Sequence[float], means: Tensor) -> float | None:
    """Return the peak to try next, as a decade, if a best mean (curves, peaks) is at an edge."""
    best = means.argmin(1).tolist()
    if 0 in best:
        return grid[0] - _STEP
    return grid[-1] + _STEP if len(grid) - 1 in best else None
