"""How low the error of a run may still come: a forecast that would rather hope too long.

An error is 1 - accuracy, or the loss where there is no accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meta_lr.lrbench.metrics import Point
from meta_lr.methods.curve import CLOCK, learning_rates
from meta_lr.protocol import Controller

EARLIEST = 1 / 2  # of the run: nothing is forecast before
FEWEST = 5  # evaluations that say anything
_SIGMAS = 2.0  # of the slope, and of the evaluations: by how much better they may get
_LEAST_SLOPE = 1.0  # what any run may have ahead of it, as a power of the time
_SETTLING = 0.4  # the error falls with this power of the rate, when the rate falls
_DEEPEST = 0.4  # and by no more than to this share, once there is something learned
_LEARNED = 0.8  # of the first error: above it nothing is


class Rates(NamedTuple):
    """The rates of a run to be: means over a twentieth of it, which begin at each step."""

    means: NDArray[np.float64]  # (windows,)
    width: int  # steps of a window

    def fall(self, now: int) -> float:
        """Return the lowest rate to come over the lowest of late: the second half of the past."""
        past = max(0, now - self.width)
        before = float(self.means[min(now // 2, past) : past + 1].min())
        after = float(self.means[past:].min()) if past < len(self.means) else before
        return min(1.0, after / before) if before > 0 else 1.0

    def rise(self, now: int) -> float:
        """Return the mean rate to come over that of late, at least 1."""
        past = min(max(0, now - self.width), len(self.means) - 1)
        before, after = self.means[min(now // 2, past) : past + 1].mean(), self.means[past:].mean()
        return max(1.0, float(after / before)) if before > 0 else 1.0


def lowest_error(
    curve: Sequence[Point], total_steps: int, rates: Rates | None, *, examples: int = 0
) -> float | None:
    """Return the error that a run may come to at best; None where it is too early to say.

    The forecast continues the lowest error so far as a power of the number of steps, and as an
    exponential, and takes what is lower. Their slopes are two standard errors steeper than those of
    the second half of the evaluations, that of the power is at least 1, since learning comes in
    stages; if the mean rate to come is higher than of late, steps count for more by as much. It
    grants two standard deviations of log errors about the power (or, if that is more, of the error
    of so many examples), and what a rate that has yet to fall may bring:
    (lowest rate to come / lowest rate of late)^0.4, but no less than 0.4 unless next to nothing has
    been learned yet. The numbers were chosen on runs of digits and Fashion-MNIST;
    `benchmarks/hopeless.py` tells on any others how often they are wrong.

    Args:
        curve: The evaluations until now, of which the last one counts as the present.
        total_steps: Length of the run.
        rates: Of the run's policy; None where they cannot be known, and may fall to nothing.
        examples: Of an evaluation; 0 where that is not known.
    """
    steps = np.array([point.step for point in curve], dtype=float)
    errors = np.array([error_of(point) for point in curve])
    now = int(steps[-1]) if len(steps) else 0
    early = len(steps) < FEWEST or now < EARLIEST * total_steps
    if early or now >= total_steps or not (np.isfinite(errors) & (errors > 0)).all():
        return None
    lowest, half = float(errors.min()), slice(len(steps) // 2, None)
    slope, noise = _steepest(np.log(steps[half]), np.log(errors[half]))
    decay, _ = _steepest(steps[half], np.log(errors[half]))
    to_come = (total_steps - now) * (1.0 if rates is None else rates.rise(now))
    ahead = min(
        (1 + to_come / now) ** -max(slope, _LEAST_SLOPE), math.exp(-max(decay, 0.0) * to_come)
    )
    if examples and curve[-1].accuracy is not None and lowest < 1:
        noise = max(noise, math.sqrt((1 - lowest) / (lowest * examples)))
    learned = lowest < _LEARNED * errors[0]
    return lowest * ahead * math.exp(-_SIGMAS * noise) * _settling(rates, now, learned=learned)


def rates_of(controller: Controller, total_steps: int, steps_per_epoch: int) -> Rates | None:
    """Return the rates of a policy; None for a controller that reads more than the clock."""
    if controller.needs & ~CLOCK:
        return None
    rates = learning_rates(controller, total_steps, steps_per_epoch=steps_per_epoch)
    width = max(1, total_steps // 20)
    return Rates(np.convolve(rates, np.ones(width) / width, mode="valid"), width)


def error_at(target: float, curve: Sequence[Point]) -> float:
    """Return the error of a target: an accuracy if the curve has any, or a loss."""
    return 1 - target if any(point.accuracy is not None for point in curve) else target


def error_of(point: Point) -> float:
    """Return 1 - accuracy, or the loss where there is no accuracy; nan where there is neither."""
    if point.accuracy is not None:
        return 1 - point.accuracy
    return math.nan if point.loss is None else point.loss


def _steepest(times: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[float, float]:
    """Return how fast log errors may fall per unit of time, and their deviation about that.

    The first is a least-squares fit, and two standard errors.
    """
    centred = times - times.mean()
    spread = float(centred @ centred)
    slope = float(centred @ errors) / spread
    residuals = errors - errors.mean() - slope * centred
    noise = math.sqrt(float(residuals @ residuals) / max(1, len(times) - 2))
    return -slope + _SIGMAS * noise / math.sqrt(spread), noise


def _settling(rates: Rates | None, now: int, *, learned: bool) -> float:
    """Return the share of the error that is left when the rate has fallen as far as it will."""
    least = _DEEPEST if learned else 0.0
    if rates is None:
        return least
    return max(least, rates.fall(now) ** _SETTLING)
