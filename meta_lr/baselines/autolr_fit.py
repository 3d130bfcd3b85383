"""AutoLR's fit: a quadratic through a few losses, and where its minimum is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Fit(NamedTuple):
    """The quadratic a x^2 + b x + c of least squares, with x the multiple of the present rate.

    Attributes:
        curvature: 2 a, nan where a loss is not finite.
        slope: b, at x = 0.
        r2: Share of the losses' variance that it explains; 0 where they do not vary.
    """

    curvature: float
    slope: float
    r2: float

    @property
    def optimum(self) -> float:
        """The multiple at its minimum, nan where it has none."""
        return -self.slope / self.curvature if self.curvature > 0 else math.nan

    def is_trusted(self, least_r2: float, *, behind: bool = False) -> bool:
        """Return whether it has a minimum ahead, and explains the losses well enough.

        With `behind` the minimum may also lie where a negative rate would lead.
        """
        return self.curvature > 0 and (behind or self.slope < 0) and self.r2 >= least_r2


def fit(multiples: Sequence[float], losses: Sequence[float]) -> Fit:
    """Return the quadratic through the losses at these multiples, at least three.

    >>> found = fit((0, 0.5, 1, 2), [3.0, 2.25, 2.0, 3.0])
    >>> [round(value, 9) for value in (*found, found.optimum)]
    [2.0, -2.0, 1.0, 1.0]
    """
    if not all(map(math.isfinite, losses)):
        return Fit(math.nan, math.nan, 0.0)
    x, y = np.array(multiples, dtype=np.float64), np.array(losses, dtype=np.float64)
    y = y - y.mean()  # a common part would only cost digits
    powers = np.vander(x, 3)
    (a, b, c), *_ = np.linalg.lstsq(powers, y, rcond=None)
    total, left = float(y @ y), float(np.sum((powers @ (a, b, c) - y) ** 2))
    return Fit(2 * float(a), float(b), 1.0 - left / total if total else 0.0)


def damped(rate: float, optimum: float, damping: float, trust: float) -> float:
    """Return the rate moved toward a multiple of itself, which is at most `trust` away.

    >>> damped(0.1, 5.0, damping=0.5, trust=2.0), damped(0.1, 0.8, damping=1.0, trust=2.0)
    (0.15000000000000002, 0.08000000000000002)
    """
    aim = min(max(optimum, 1 / trust), trust) * rate
    return (1 - damping) * rate + damping * aim
