"""Baseline of an inner problem: the losses of a cosine, with which other losses are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from meta_lr.annealing import cosine_share
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.schedules import Seen
from meta_lr.protocol import NoState
from meta_lr.vectors import Tensors

PEAKS = tuple(0.08 * 2.0**k for k in range(8))  # 0.08 to 10.24, in units of plain SGD's lr


@dataclass(frozen=True)
class PeakedCosine:
    """A cosine whose peak is its weight, so that each parallel copy can have its own peak."""

    def init(self) -> NoState:
        """Return an empty state."""
        return NoState()

    def side_by_side(self, weights: Tensors, seen: Seen, state: NoState) -> tuple[Tensor, NoState]:
        """Return the learning rates (copies,) of this step, and the state."""
        return weights[0] * cosine_share(seen.step, seen.total_steps), state


class Curve(NamedTuple):
    """A baseline's meta loss along an inner problem, as logarithms at a few steps."""

    steps: tuple[int, ...]  # ascending, the first is 0
    logs: tuple[float, ...]  # log of the meta loss after these steps

    def at(self, step: int) -> float:
        """Return the logarithm at a step, by linear interpolation between the stored steps."""
        for (a, low), (b, high) in pairwise(zip(self.steps, self.logs, strict=True)):
            if a <= step <= b:
                return low + (high - low) * (step - a) / (b - a)
        return self.logs[-1]


def cosine_losses(problem: Problem, peaks: Sequence[float]) -> tuple[list[int], Tensor]:
    """Return steps, starting at 0, and the mean meta loss of each peak there, (steps, peaks)."""
    copies = Copies(problem, PeakedCosine(), len(peaks))
    steps = sorted({round(problem.total_steps * k / 8) for k in range(9)})
    point, rows = copies.start(), []
    phi = (torch.tensor(peaks) * problem.unit,)
    for before, step in zip([0, *steps], steps, strict=False):
        point = copies.run(point, phi, before, step - before)
        rows.append(copies.mean_loss(point, "meta"))
    return steps, torch.stack(rows)


def first_loss(problem: Problem) -> Curve:
    """Return a constant curve at the initial loss: a baseline that needs no run."""
    copies = Copies(problem, PeakedCosine(), 1)
    return Curve((0,), (copies.mean_loss(copies.start(), "meta").log().item(),))


def baseline_curve(problem: Problem, peak: float) -> Curve:
    """Return the curve of a cosine at this peak; after divergence it keeps the last finite loss."""
    steps, losses = cosine_losses(problem, (peak,))
    logs: list[float] = []
    for loss in losses[:, 0].tolist():
        logs.append(math.log(max(loss, 1e-8)) if math.isfinite(loss) else logs[-1])
    return Curve(tuple(steps), tuple(logs))
