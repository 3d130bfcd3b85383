"""AutoLRS's forecast as published: where a short trial's losses lead, along an exponential."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from meta_lr.extras import explained

Array = np.ndarray[Any, np.dtype[np.float64]]

_OUTLIERS, _PASSES = 0.03, 10  # part of the losses that the published code marks, and how often
_SPLINE = 3  # points below which there is no spline of degree 2


def published(losses: Sequence[float], at: int, *, validates: bool = False) -> float:
    """Return where a e^(b x) + c is at x = `at`, with b < 0, after a fit to smoothed losses.

    The n losses, finite, are at x = 0, 1, ... Outliers are dropped, in ten passes of 3 % each, or,
    where it `validates`, in one pass of a single point; but only those among the first
    (n - 1) // 2 of the points that are left. A spline of degree 2 through the others smooths all
    of them. With its default smoothing it is a parabola wherever the losses' noise is below 1. The
    decay is found by Nelder-Mead, from one per step on.
    """
    values = np.asarray(losses, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a spline says so if it smooths less than it was to
        values = _smoothed(values, validates) if len(values) >= _SPLINE else values
    return _extrapolated(values, at)


def _smoothed(values: Array, validates: bool) -> Array:
    with explained():
        from scipy.interpolate import UnivariateSpline

    x = kept = np.arange(len(values))
    half = (len(values) - 1) // 2
    for _ in range(1 if validates else _PASSES):
        residuals = np.abs(UnivariateSpline(kept, values[kept], k=2)(kept) - values[kept])
        num_marked = 1 if validates else round(_OUTLIERS * len(kept))
        marked = np.argsort(residuals, kind="stable")[len(kept) - num_marked :]
        left = np.delete(kept, marked[marked < half])
        kept = left if len(left) >= _SPLINE else kept
    return np.asarray(UnivariateSpline(kept, values[kept], k=2)(x))


def _extrapolated(values: Array, at: int) -> float:
    with explained():
        from scipy.optimize import fmin

    x = np.arange(len(values))

    def fit(beta: float) -> tuple[float, float, Array]:
        b = -np.exp(min(beta, 50.0))  # beyond it is a jump, and then an overflow
        basis = np.stack((np.exp(b * x), np.ones(len(x))), axis=1)
        found, squares, *_ = np.linalg.lstsq(basis, values, rcond=None)
        coefficients = np.asarray(found, dtype=np.float64)
        if not squares.size:  # the basis has rank one, or there are two losses or fewer
            squares = np.square(basis @ coefficients - values)
        return float(squares.sum()), b, coefficients

    options = {"xtol": 1e-5, "ftol": 1e-5, "disp": False}
    best = fmin(lambda beta: fit(float(beta[0]))[0], [0.0], **options)
    _, b, (a, c) = fit(float(best[0]))
    return float(a * np.exp(b * at) + c)
