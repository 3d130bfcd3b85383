"""AutoLR's fit: a quadratic through a few losses, and where its minimum is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Fit(NamedTuple):
    """The quadratic a x^2 + b x + c of least squares, with x the multiple of the present rate.

    Attributes:
        curvature: 2 a, nan where a loss is not finite.
        slope: b, at x = 0.
        r2: Share of the mean losses' variance that it explains; 0 where they do not vary.
        error: Standard error of the optimum, by how the batches differ; nan for a single one.
    """

    curvature: float
    slope: float
    r2: float
    error: float

    @property
    def optimum(self) -> float:
        """The multiple at its minimum, nan where it has none."""
        return -self.slope / self.curvature if self.curvature > 0 else math.nan

    def is_trusted(
        self, least_r2: float, most_error: float | None = None, *, behind: bool = False
    ) -> bool:
        """Return whether it has a minimum ahead, explains the losses and is known well enough.

        With `behind` the minimum may also lie where a negative rate would lead.
        """
        bends = self.curvature > 0 and (behind or self.slope < 0) and self.r2 >= least_r2
        return bends and (most_error is None or self.error <= most_error * abs(self.optimum))


def fit(multiples: Sequence[float], losses: Sequence[Sequence[float]]) -> Fit:
    """Return the quadratic through the losses at these multiples, at least three.

    All batches share what is random in the direction and along it, so the mean losses lie on their
    quadratic however few batches there are: R^2 tells whether it is one, and not whether other
    batches would have the same. That is what the error tells: to first order, the optimum moves by
    -(b + 2 a x) / curvature for a batch with a and b.

    Args:
        multiples: P of them.
        losses: Of each, those on the same K batches.

    >>> found = fit((0, 0.5, 1, 2), [[3.0, 3.1], [2.25, 2.3], [2.0, 2.0], [3.0, 2.9]])
    >>> [round(value, 9) for value in (*found, found.optimum)]
    [2.0, -2.05, 1.0, 0.025, 1.025]
    """
    x, y = np.array(multiples, dtype=np.float64), np.array(losses, dtype=np.float64)
    if not np.isfinite(y).all():
        return Fit(math.nan, math.nan, 0.0, math.nan)
    if not np.ptp(y, axis=0).any():  # on a zero direction; the fit would be of rounding errors
        return Fit(0.0, 0.0, 0.0, math.nan)
    y = y - y.mean(axis=0)  # a common part would only cost digits
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
    """Return the rate moved toward a multiple of itself, which is at most `trust` away.

    >>> damped(0.1, 5.0, damping=0.5, trust=2.0), damped(0.1, 0.8, damping=1.0, trust=2.0)
    (0.15000000000000002, 0.08000000000000002)
    """
    aim = min(max(optimum, 1 / trust), trust) * rate
    return (1 - damping) * rate + damping * aim
