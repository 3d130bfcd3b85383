"""AutoLRS's search: which rate to try next, given what the trials before forecast.

A rate is known by its place in [0, 1], its logarithm between those of the smallest and the largest
rate. The Gaussian process is scikit-learn's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Posterior = Callable[[Array], tuple[Array, Array]]  # places to means and standard deviations

WORST = 1e6  # what the published code tells the model of a loss that is not a number
_SAME = 0.01  # places that are closer tell nothing new of each other
_TIRED = 20  # times that a model may insist on a rate which it knows


class Told(NamedTuple):
    """What a trial found: a forecast and its error; a trial that failed forecasts infinity."""

    place: float
    loss: float
    error: float

    @property
    def failed(self) -> bool:
        """Whether there is no forecast."""
        return math.isinf(self.loss)


class Bounds(NamedTuple):
    """Between which the model's numbers are fitted, in standard deviations and in places."""

    amplitude: tuple[float, float]
    length: tuple[float, float]
    noise: tuple[float, float]


PUBLISHED = Bounds((0.01, 1000.0), (0.01, 100.0), (1e-5, 1e5))
NOISY = Bounds((0.1, 10.0), (0.1, 2.0), (1e-6, 1e-2))  # the errors that are told come on top
SURE = Bounds((0.1, 10.0), (0.1, 2.0), (1e-6, 0.5))


def log_spaced(index: int, count: int) -> float:
    """Return the place of the index-th of `count` rates in equal ratios, from end to end."""
    return index / (count - 1) if count > 1 else 0.5


def spread_out(index: int, count: int, seed: int) -> float:
    """Return a random place in the index-th of `count` equal parts."""
    return (index + float(_random(seed).uniform())) / count


def by_bound(
    told: Sequence[Told], known: Sequence[Told], kappa: float, *, noisy: bool, top: float = 1.0
) -> float:
    """Return the place of the least lower bound, mean - kappa * deviation.

    It is apart from those told, and below all that have failed: a larger rate would fail too.

    Args:
        told: What the trials of this stage found, at least one.
        known: What is known from before, in standard deviations.
        kappa: How much is not to know worth.
        noisy: Whether the model is told the forecasts' errors.
        top: The largest place to try.
    """
    places = np.linspace(0.0, top, 301)
    mean, deviation = _posterior(told, known, noisy)(places)
    apart = np.abs(places[:, None] - [point.place for point in told]).min(axis=1) >= _SAME
    below = places < min((point.place for point in told if point.failed), default=math.inf)
    useful = apart & below if (apart & below).any() else apart
    return float(places[np.argmin(np.where(useful, mean - kappa * deviation, np.inf))])


def confirmed(told: Sequence[Told], known: Sequence[Told], *, noisy: bool) -> list[float]:
    """Return the larger of forecast and the model's mean, in standard deviations.

    None of the trials told has failed.
    """
    forecasts = np.array([point.loss for point in standardised(told)])
    return np.maximum(forecasts, means(told, known, noisy=noisy)).tolist()


def means(told: Sequence[Told], known: Sequence[Told], *, noisy: bool) -> list[float]:
    """Return the model's means at the places told, in standard deviations."""
    places = np.array([point.place for point in told])
    return _posterior(told, known, noisy)(places)[0].tolist()


def standardised(told: Sequence[Told]) -> list[Told]:
    """Return what was told in standard deviations; a failed trial is the worst, within one."""
    worst = max((point.loss for point in told if not point.failed), default=0.0)
    losses = [worst if point.failed else point.loss for point in told]
    mean, scale = float(np.mean(losses)), float(np.std(losses)) or 1.0
    return [
        Told(point.place, (loss - mean) / scale, 1.0 if point.failed else point.error / scale)
        for point, loss in zip(told, losses, strict=True)
    ]


def published(told: Sequence[Told], kappa: float, seed: int, *, top: float = 1.0) -> float:
    """Return the place of the least lower bound by L-BFGS, from the best 5 of 10,000 random ones.

    It is at most `top`. A rate that was tried already is told once more, until the model asks for
    another one.
    """
    told, before, rng = list(told), {point.place: point for point in told}, _random(seed)
    for _ in range(_TIRED):
        place = _least_bound(told, kappa, rng, top)
        if place not in before:
            return place
        told.append(before[place])
    return float(rng.uniform(high=top))


def _least_bound(
    told: Sequence[Told], kappa: float, rng: np.random.RandomState, top: float
) -> float:
    from scipy.optimize import minimize

    losses = np.array([min(point.loss, WORST) for point in told])
    values = (losses - losses.mean()) / (losses.std() or 1.0)
    places = np.array([point.place for point in told])
    model = _fitted(places, values, PUBLISHED, errors=np.zeros(len(told)), restarts=2, rng=rng)

    def bound(at: Array) -> Array:
        mean, deviation = model(at)
        return mean - kappa * deviation

    candidates = rng.uniform(high=top, size=10_000)
    starts = candidates[np.argsort(bound(candidates))[:5]]
    found = [
        minimize(lambda at: bound(at)[0], [start], method="L-BFGS-B", bounds=[(0.0, top)])
        for start in starts
    ]
    return float(min(found, key=lambda result: result.fun).x[0])


def _posterior(told: Sequence[Told], known: Sequence[Told], noisy: bool) -> Posterior:
    """Return the model that `told`, in standard deviations, and `known` make."""
    points = [*standardised(told), *known]
    places, values, errors = (np.array(numbers) for numbers in zip(*points, strict=True))
    bounds = NOISY if noisy else SURE
    return _fitted(places, values, bounds, errors=errors * noisy, restarts=0)


def _fitted(
    places: Array,
    values: Array,
    bounds: Bounds,
    *,
    errors: Array,
    restarts: int,
    rng: np.random.RandomState | None = None,
) -> Posterior:
    """Fit amplitude, length and noise of a Matern-5/2 process; its deviations leave noise out."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, bounds.amplitude) * Matern(1.0, bounds.length, nu=2.5)
    kernel += WhiteKernel(min(1.0, bounds.noise[1]), bounds.noise)
    nuggets: Any = errors**2 + 1e-10
    process: Any = GaussianProcessRegressor(
        kernel, alpha=nuggets, n_restarts_optimizer=restarts, random_state=rng
    )
    with _silence():
        process.fit(places[:, None], values)
    noise = process.kernel_.k2.noise_level

    def predict(at: Array) -> tuple[Array, Array]:
        with _silence():
            mean, deviation = process.predict(np.asarray(at)[:, None], return_std=True)
        return mean, np.sqrt(np.maximum(deviation**2 - noise, 0.0))

    return predict


def _random(seed: int) -> np.random.RandomState:
    return np.random.RandomState(seed % 2**32)


@contextmanager
def _silence() -> Iterator[None]:
    """Say nothing of a number that is fitted to its bound: ten points often leave it there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
