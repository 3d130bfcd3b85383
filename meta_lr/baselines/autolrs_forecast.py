"""AutoLRS's forecasts: where the losses of a short trial are going, along an exponential.

`published` is what the authors' code does, a parabola and then an exponential; `robust` fits the
exponential to the losses themselves, and says how far off it may be.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

_OUTLIERS, _PASSES = 0.03, 10  # part of the losses that the published code marks, and how often
_SPLINE = 3  # points below which there is no spline of degree 2
_DECAYS = 200  # lengths of the decay that `robust` averages over, in equal ratios
_ROUNDS = 5  # of weighing the losses anew
_USUAL = 2.5  # standard deviations at which a loss weighs half
_UNLIKE = 0.2  # part of the falls, seen and to come, by which no loss is an exponential


class Forecast(NamedTuple):
    """A loss to come.

    Attributes:
        loss: That is forecast.
        error: Standard deviation of its error, 0 where none is known.
        own: The part of it that other forecasts from the same start do not share.
    """

    loss: float
    error: float = 0.0
    own: float = 0.0


def published(losses: Sequence[float], at: int, *, validates: bool = False) -> Forecast:
    """Return where a e^(b x) + c is at x = `at`, with b < 0, after a fit to smoothed losses.

    The losses, finite, are at x = 0, 1, ... Outliers in their first half are dropped, in ten passes
    of 3 % each, or, where it `validates`, in one pass of a single point; a spline of degree 2
    through the others smooths all of them. With its default smoothing it is a parabola wherever
    the losses' noise is below 1. The decay is found by Nelder-Mead, from one per step on.
    """
    values = np.asarray(losses, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a spline says so if it smooths less than it was to
        values = _smoothed(values, validates) if len(values) >= _SPLINE else values
    return Forecast(_extrapolated(values, at))


def _smoothed(values: Array, validates: bool) -> Array:
    from scipy.interpolate import UnivariateSpline

    x = kept = np.arange(len(values))
    for _ in range(1 if validates else _PASSES):
        residuals = np.abs(UnivariateSpline(kept, values[kept], k=2)(kept) - values[kept])
        num_marked = 1 if validates else round(_OUTLIERS * len(kept))
        marked = kept[np.argsort(residuals)[len(kept) - num_marked :]]
        left = np.setdiff1d(kept, marked[marked < len(values) / 2])
        kept = left if len(left) >= _SPLINE else kept
    return np.asarray(UnivariateSpline(kept, values[kept], k=2)(x))


def _extrapolated(values: Array, at: int) -> float:
    from scipy.optimize import fmin

    x = np.arange(len(values))

    def fit(beta: float) -> tuple[float, float, Array]:
        b = -math.exp(min(beta, 50.0))  # beyond it is a jump, and then an overflow
        basis = np.stack((np.exp(b * x), np.ones(len(x))), axis=1)
        coefficients = np.asarray(np.linalg.lstsq(basis, values, rcond=None)[0], dtype=np.float64)
        return float(np.square(basis @ coefficients - values).sum()), b, coefficients

    options = {"xtol": 1e-5, "ftol": 1e-5, "disp": False}
    best = fmin(lambda beta: fit(float(beta[0]))[0], [0.0], **options)
    _, b, (a, c) = fit(float(best[0]))
    return float(a * np.exp(b * at) + c)


class _Fits(NamedTuple):
    """Least squares of level + fall * shape, one for each length of the decay, all (decays,)."""

    level: Array
    fall: Array
    normal: tuple[Array, Array, Array]  # sums of weights * (1, shape, shape^2), with the prior
    prior: Array  # its part in the sum of shape^2
    noise: float  # standard deviation of one loss
    misfit: Array  # sum of squares, those of outliers less, the prior's among them

    @property
    def determinant(self) -> Array:
        ones, cross, squares = self.normal
        return ones * squares - cross**2

    def chances(self) -> Array:
        """Return how probable each decay is."""
        log = -self.misfit / (2 * self.noise**2) - np.log(self.determinant / self.prior) / 2
        chances = np.exp(log - log.max())
        return chances / chances.sum()

    def variances(self, ahead: Array) -> Array:
        """Return the variance of level + fall * `ahead`."""
        ones, cross, squares = self.normal
        spread = squares - 2 * ahead * cross + ahead**2 * ones
        return self.noise**2 * spread / self.determinant


def robust(steps: Sequence[int], losses: Sequence[float], at: int) -> Forecast:
    """Return the loss at step `at` along an exponential through the losses, and its error.

    For each of 200 lengths of the decay, the level at the last step and the fall until there
    follow in closed form, outliers weighing less. Their forecasts are averaged by how probable
    the losses make them. The error is that within each fit and between them, which is the
    forecast's own; and a fifth of the fall seen and of that to come, because the loss of a network
    is no exponential, which all rates have in common.

    Args:
        steps: At which the losses were seen, rising.
        losses: As many, finite.
        at: The step to forecast, beyond the last one.
    """
    t, y = np.asarray(steps, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if len(y) == 1:
        return Forecast(float(y[0]), abs(float(y[0])), abs(float(y[0])))
    span = float(t[-1] - t[0])
    lengths = np.geomspace(max(span / 10, 0.5), 2 * max(at, span), _DECAYS)[:, None]
    origin = np.expm1((t[-1] - t[0]) / lengths)  # so a shape falls from 1 to 0 while it is seen
    fits = _fit(y, np.expm1((t[-1] - t) / lengths) / origin, 1 / origin[:, 0])
    ahead = (np.expm1((t[-1] - at) / lengths) / origin)[:, 0]
    forecasts, chances = fits.level + fits.fall * ahead, fits.chances()
    mean = float(chances @ forecasts)
    own = float(chances @ (fits.variances(ahead) + (forecasts - mean) ** 2)) ** 0.5
    level, fall = float(chances @ fits.level), float(chances @ fits.fall)
    return Forecast(mean, math.hypot(own, _UNLIKE * (abs(fall) + abs(level - mean))), own)


def _fit(y: Array, shapes: Array, ends: Array) -> _Fits:
    """Fit by least squares, again and again, with less weight on what was far off.

    Beforehand the fall is taken to be about as large as the range of the losses, and what is to
    come, `ends` times it, as far as from the last losses to zero.
    """
    rough, medians = _roughness(y), _medians(y)
    seen, to_come = float(np.ptp(medians)) + rough, abs(float(medians[-1])) + rough
    precisions = np.sqrt(1 / seen**2 + (ends / to_come) ** 2)
    fits = _weighted(y, shapes, precisions, np.broadcast_to(y - medians, shapes.shape), rough)
    for _ in range(_ROUNDS):
        residuals = y - fits.level[:, None] - fits.fall[:, None] * shapes
        noise = _noise(residuals[fits.misfit.argmin()], fits.noise, rough)
        fits = _weighted(y, shapes, precisions, residuals, noise)
    return fits


def _weighted(y: Array, shapes: Array, precisions: Array, residuals: Array, noise: float) -> _Fits:
    """Fit with weights for the residuals of the fit before."""
    weights = 1 / (1 + (residuals / (_USUAL * noise)) ** 2)
    prior = (noise * precisions) ** 2
    parts = (1, shapes, shapes**2, y, shapes * y)
    ones, cross, squares, levels, falls = ((weights * part).sum(axis=1) for part in parts)
    squares = squares + prior
    determinant = ones * squares - cross**2
    level = (squares * levels - cross * falls) / determinant
    fall = (ones * falls - cross * levels) / determinant
    residuals = y - level[:, None] - fall[:, None] * shapes
    misfit = (_USUAL * noise) ** 2 * np.log1p((residuals / (_USUAL * noise)) ** 2).sum(axis=1)
    return _Fits(level, fall, (ones, cross, squares), prior, noise, misfit + prior * fall**2)


def _noise(residuals: Array, before: float, rough: float) -> float:
    """Return the noise of one loss by the residuals of a fit, outliers weighing less.

    One more loss counts, as far off as `rough`: a few losses alone know little of their noise.
    """
    weights = 1 / (1 + (residuals / (_USUAL * before)) ** 2)
    squares = float(weights @ residuals**2) + rough**2
    return (squares / (max(float(weights.sum()) - 3, 0.0) + 1)) ** 0.5


def _medians(y: Array) -> Array:
    """Return the medians of up to five neighbours."""
    padded = np.pad(y, 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)


def _roughness(y: Array) -> float:
    """Return the standard deviation of the noise by the curvature, which a trend has little of."""
    least = 1e-6 * float(np.abs(y).max()) + 1e-12
    if len(y) == 2:
        return max(least, float(abs(y[1] - y[0])) / 2)
    return max(least, 1.4826 / 6**0.5 * float(np.median(np.abs(np.diff(y, 2)))))
