"""A sweep of the learning rate from low to high: the controller of the range test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meta_lr.protocol import DivergedError, Need, StepView


class SweepState(NamedTuple):
    """Statistics of the losses so far."""

    total: float  # exponentially weighted sum; the weights sum to less than 1
    start: float  # the largest absolute loss at the start of the sweep
    lowest: float  # the lowest smoothed loss


@dataclass(frozen=True)
class Sweep:
    """Raise the learning rate from `low` to `high` in equal ratios; stop if the run diverges.

    Update:
        rate(t) = low (high / low)^(t / (T - 1)), with T = total_steps;
        s(t) = sum_i b^(t - i) loss(i) / sum_i b^(t - i), with b = smoothing;
        the run has diverged if s(t) > min_i s(i) + a, with a the largest |loss| of the start. The
        start is the first tenth of the steps; there is no test during the start
    Reference:
        Smith 2015, arXiv 1506.01186, section 3.3
    Deviations:
        1. the learning rate rises in equal ratios, not by equal differences, so one sweep covers
           all scales;
        2. the sweep uses the smoothed loss; the paper plots accuracy;
        3. the sweep stops at divergence; the paper runs to the end. The bound limits the rise of
           the loss, in units of the loss at the start. It is no multiple of the lowest loss,
           because that may be near zero or negative.
    Cost:
        none

    Args:
        low: The first learning rate, above 0.
        high: The last learning rate, above `low`.
        smoothing: b, the weight of a loss relative to that of the next loss, in [0, 1).

    Raises:
        ValueError: An argument is out of range.

    >>> from meta_lr.protocol import HostLoss, StepView
    >>> import torch
    >>> sweep = Sweep(0.01, 1.0)
    >>> view = StepView(sweep, 1, total_steps=3, loss=HostLoss(2.0, torch.float32))
    >>> round(sweep(view, sweep.init())[0], 9)
    0.1
    """

    low: float
    high: float
    smoothing: float = 0.9
    needs = Need.LOSS | Need.HORIZON

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(
                f"low={self.low}, high={self.high}; the learning rates need 0 < low < high, finite"
            )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing={self.smoothing}; a number in [0, 1) is needed")

    def init(self) -> SweepState:
        """Return the state before the first step."""
        return SweepState(0.0, 0.0, math.inf)

    def __call__(self, view: StepView, state: SweepState) -> tuple[float, SweepState]:
        """Return the learning rate of this step, and the state.

        Raises:
            DivergedError: The smoothed loss has risen too far.
        """
        loss, step = view.loss_item(), view.step
        total, smoothed = _smoothed(state.total, loss, step, self.smoothing)
        starts = step < start_of(view.total_steps)
        start = max(state.start, abs(loss)) if starts else state.start
        lowest = min(state.lowest, smoothed)
        if not (starts or smoothed <= lowest + start):
            raise DivergedError
        part = step / max(1, view.total_steps - 1)
        return self.low * (self.high / self.low) ** part, SweepState(total, start, lowest)


def start_of(steps: int) -> int:
    """Return the number of steps at a sweep's start, where the loss should not change yet."""
    return max(2, steps // 10)


def smooth(losses: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    """Return the exponentially weighted means (steps,) of the losses (steps,) up to each step."""
    total, smoothed = 0.0, np.empty(len(losses))
    for step, loss in enumerate(losses.tolist()):
        total, smoothed[step] = _smoothed(total, loss, step, smoothing)
    return smoothed


def _smoothed(total: float, loss: float, step: int, smoothing: float) -> tuple[float, float]:
    """Return the weighted sum including the loss of this step, and the weighted mean."""
    total = smoothing * total + (1 - smoothing) * loss
    return total, total / (1 - smoothing ** (step + 1))
