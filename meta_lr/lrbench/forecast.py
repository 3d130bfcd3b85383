"""A forecast of the lowest error that a run may still reach; it is optimistic by design.

An error is 1 - accuracy, or the loss if there is no accuracy.
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

EARLIEST = 1 / 2  # share of the run; there is no forecast before it
FEWEST = 5  # smallest number of evaluations for a forecast
_SIGMAS = 2.0  # optimism, in deviations of the slope and of the evaluations
_LEAST_SLOPE = 1.0  # smallest slope in a forecast, as a power of the time
_SETTLING = 0.4  # the error falls as this power of a falling learning rate,
_DEEPEST = 0.4  # but not below this share of the error, once something is learned
_LEARNED = 0.8  # share of the first error; above it nothing is learned yet


class Rates(NamedTuple):
    """The learning rates of a future run: means over 1/20 of the run, one starting at each step."""

    means: NDArray[np.float64]  # (windows,)
    width: int  # steps of a window

    def fall(self, now: int) -> float:
        """Return the lowest future learning rate over the lowest in the second half of the past."""
        past = max(0, now - self.width)
        before = float(self.means[min(now // 2, past) : past + 1].min())
        after = float(self.means[past:].min()) if past < len(self.means) else before
        return min(1.0, after / before) if before > 0 else 1.0

    def rise(self, now: int) -> float:
        """Return the mean future learning rate over the recent mean, at least 1."""
        past = min(max(0, now - self.width), len(self.means) - 1)
        before, after = self.means[min(now // 2, past) : past + 1].mean(), self.means[past:].mean()
        return max(1.0, float(after / before)) if before > 0 else 1.0


def lowest_error(
    curve: Sequence[Point], total_steps: int, rates: Rates | None, *, examples: int = 0
) -> float | None:
    """Return the lowest error that a run may reach; None if it is too early for a forecast.

    The forecast extrapolates the lowest error so far as a power of the number of steps and as an
    exponential, and uses the lower of the two. Their slopes are two standard errors steeper than
    those of the second half of the evaluations. The slope of the power is at least 1, because
    learning comes in stages. If the mean future learning rate is higher than the recent one, the
    remaining steps count more by the same factor. The forecast is lowered by two standard
    deviations of the log errors about the power (or, if that is more, of the error measured on
    `examples` examples). It is also lowered by a factor for a learning rate that will still fall:
    (lowest future learning rate / lowest recent learning rate)^0.4. This factor is at least 0.4,
    unless almost nothing has been learned yet. The numbers were chosen on runs of digits and
    Fashion-MNIST; `benchmarks/hopeless.py` measures their error rate on any other runs.

    Args:
        curve: The evaluations until now; the last one is the present.
        total_steps: Length of the run.
        rates: Learning rates of the run's policy; None if they are unknown and may fall to zero.
        examples: Number of examples in an evaluation; 0 if it is unknown.
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
    """Return the learning rates of a policy; None if the controller reads more than the clock."""
    if controller.needs & ~CLOCK:
        return None
    rates = learning_rates(controller, total_steps, steps_per_epoch=steps_per_epoch)
    width = max(1, total_steps // 20)
    return Rates(np.convolve(rates, np.ones(width) / width, mode="valid"), width)


def error_at(target: float, curve: Sequence[Point]) -> float:
    """Return the error of a target: an accuracy if the curve has any, or a loss."""
    return 1 - target if any(point.accuracy is not None for point in curve) else target


def error_of(point: Point) -> float:
    """Return 1 - accuracy, or the loss if there is no accuracy; nan if there is neither."""
    if point.accuracy is not None:
        return 1 - point.accuracy
    return math.nan if point.loss is None else point.loss


def _steepest(times: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[float, float]:
    """Return the steepest plausible fall of log errors per unit of time, and their deviation.

    The fall is that of a least-squares fit, plus two standard errors.
    """
    centred = times - times.mean()
    spread = float(centred @ centred)
    slope = float(centred @ errors) / spread
    residuals = errors - errors.mean() - slope * centred
    noise = math.sqrt(float(residuals @ residuals) / max(1, len(times) - 2))
    return -slope + _SIGMAS * noise / math.sqrt(spread), noise


def _settling(rates: Rates | None, now: int, *, learned: bool) -> float:
    """Return the share of the error that remains after the learning rate's full decay."""
    least = _DEEPEST if learned else 0.0
    if rates is None:
        return least
    return max(least, rates.fall(now) ** _SETTLING)
