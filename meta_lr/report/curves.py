"""The curves in the figures: one per run, and their mean and spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from meta_lr.report.outcomes import Metric, validations
from meta_lr.report.runs import Array, Run

Quantity = Literal["rate", "loss", "score"]
Axis = Literal["step", "cost"]
POINTS = 400  # more than a figure can show


@dataclass(frozen=True)
class Curve:
    """One run: its finite points x and y, both of shape (points,), and how the run ended."""

    x: Array
    y: Array
    finished: bool = True
    diverged: bool = False


@dataclass(frozen=True)
class Band:
    """Mean and standard deviation over runs on a common x, for the range that all runs cover."""

    x: Array
    mean: Array
    spread: Array


def run_curve(run: Run, quantity: Quantity, axis: Axis, metric: Metric) -> Curve:
    """Return one run's learning rate, training loss (mean over the last 2 %) or val metric."""
    if quantity == "score":
        rows = validations(run)
        x = np.array([e.step if axis == "step" else e.cost for e in rows], dtype=np.float64)
        y = np.array([metric.of(e) for e in rows], dtype=np.float64)
    else:
        x = run.steps.step if axis == "step" else run.steps.cost
        y = run.steps.lr if quantity == "rate" else smooth(run.steps.loss)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    kept = _thin(x.size)
    return Curve(x[kept], y[kept], finished=run.finished, diverged=run.diverged)


def smooth(values: Array) -> Array:
    """Return the trailing mean over 2 % of the values; at the start over fewer values."""
    if values.size == 0:
        return values
    window = max(1, values.size // 50)
    finite = np.isfinite(values)
    sums = np.cumsum(np.where(finite, values, 0.0))
    index = np.arange(values.size)
    before = index - window
    lagged = np.where(before >= 0, sums[np.maximum(before, 0)], 0.0)
    means = (sums - lagged) / np.minimum(index + 1, window)
    return np.where(np.cumsum(~finite) == 0, means, np.nan)  # nothing after the first bad value


def band(curves: Sequence[Curve]) -> Band | None:
    """Return mean and spread on a common grid; None if the curves have no common range of x.

    If there are finished runs, only they are used, so that an unfinished run does not shorten the
    mean. Otherwise the runs that did not diverge are used, or else all runs.
    """
    finished = [curve for curve in curves if curve.finished]
    counted = finished or [curve for curve in curves if not curve.diverged] or curves
    drawn = [curve for curve in counted if curve.x.size]
    if not drawn:
        return None
    start, end = max(c.x[0] for c in drawn), min(c.x[-1] for c in drawn)
    points = np.unique(np.concatenate([c.x for c in drawn]))
    grid = points[(points >= start) & (points <= end)]
    if grid.size == 0:
        return None
    grid = grid[_thin(grid.size)]
    values = np.stack([np.interp(grid, c.x, c.y) for c in drawn])
    spread = values.std(axis=0, ddof=1) if len(drawn) > 1 else np.zeros(grid.size)
    return Band(grid, values.mean(axis=0), spread)


def _thin(size: int) -> NDArray[np.intp]:
    """Return the indices of at most `POINTS` evenly spaced entries, including both ends."""
    return np.unique(np.linspace(0, size - 1, min(size, POINTS)).round().astype(np.intp))
