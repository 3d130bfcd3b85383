"""AutoLR's fit: a quadratic through a few losses, and its minimum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Fit(NamedTuple):
    """The least-squares fit a x^2 + b x + c, with x the multiple of the present learning rate."""

    curvature: float  # 2 a; nan if a loss is not finite
    slope: float  # b, at x = 0
    r2: float  # explained share of the variance of the mean losses; 0 if they do not vary
    error: float  # standard error of the optimum over the batches; nan for a single batch

    @property
    def optimum(self) -> float:
        """The multiple at the minimum; nan if there is no minimum."""
        return -self.slope / self.curvature if self.curvature > 0 else math.nan

    def is_trusted(
        self, least_r2: float, most_error: float | None = None, *, behind: bool = False
    ) -> bool:
        """Return whether the fit has a minimum at x > 0, a good R^2 and a small enough error.

        With `behind` the minimum may also be at a negative multiple.
        """
        bends = self.curvature > 0 and (behind or self.slope < 0) and self.r2 >= least_r2
        return bends and (most_error is None or self.error <= most_error * abs(self.optimum))


def fit(multiples: Sequence[float], losses: Sequence[Sequence[float]]) -> Fit:
    """Return the quadratic fitted to the losses at these multiples, at least three.

    All batches share the randomness of the direction and of the points on it. The mean losses can
    therefore fit a quadratic well even with few batches. R^2 shows whether the mean loss is
    quadratic. It does not show whether other batches would give the same quadratic; the error
    shows that. To first order, a batch with coefficients a and b moves the optimum by
    -(b + 2 a x) / curvature.

    Args:
        multiples: The P multiples.
        losses: For each multiple, the losses on the same K batches.

    >>> found = fit((0, 0.5, 1, 2), [[3.0, 3.1], [2.25, 2.3], [2.0, 2.0], [3.0, 2.9]])
    >>> [round(value, 9) for value in (*found, found.optimum)]
    [2.0, -2.05, 1.0, 0.025, 1.025]
    """
    x, y = np.array(multiples, dtype=np.float64), np.array(losses, dtype=np.float64)
    if not np.isfinite(y).all():
        return Fit(math.nan, math.nan, 0.0, math.nan)
    if not np.ptp(y, axis=0).any():  # zero direction: the fit would only see rounding errors
        return Fit(0.0, 0.0, 0.0, math.nan)
    y = y - y.mean(axis=0)  # a common offset would only cost precision
    powers = np.vander(x, 3)
    found, *_ = np.linalg.lstsq(powers, y, rcond=None)
    mean, left = y.mean(axis=1), (powers @ found - y).mean(axis=1)
    total = float(mean @ mean)
    a, b, _ = found.mean(axis=1)
    curvature, slope = 2 * float(a), float(b)
    r2 = 1.0 - float(left @ left) / total if total else 0.0
    return Fit(curvature, slope, r2, _error(found, curvature, slope))


def _error(found: np.ndarray[Any, Any], curvature: float, slope: float) -> float:
    """Return the standard error of the optimum, given (3, K) coefficients, one per batch."""
    count = found.shape[1]
    if count < 2 or curvature <= 0:
        return math.nan
    moves = found[1] - 2 * slope / curvature * found[0]
    return float(moves.std(ddof=1)) / count**0.5 / curvature


def damped(rate: float, optimum: float, damping: float, trust: float) -> float:
    """Return the learning rate moved towards `optimum` times itself, by a factor <= `trust`.

    >>> damped(0.1, 5.0, damping=0.5, trust=2.0), damped(0.1, 0.8, damping=1.0, trust=2.0)
    (0.15000000000000002, 0.08000000000000002)
    """
    aim = min(max(optimum, 1 / trust), trust) * rate
    return (1 - damping) * rate + damping * aim
