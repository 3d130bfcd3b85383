"""AutoLRS's search: which rate to try next, given what the trials before found.

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

from meta_lr.extras import explained
from meta_lr.methods.autolrs.trials import Seen

Array = np.ndarray[Any, np.dtype[np.float64]]
Posterior = Callable[[Array], tuple[Array, Array]]  # places to means and standard deviations

WORST = 1e6  # what the published code tells the model of a loss that is not a number
_SAME = 0.01  # part of the range; places that are closer tell nothing new of each other
_TIRED = 20  # times that a model may insist on a rate which it knows
_ONCE_MORE = 1.5  # how much more another run would differ than another choice of batches
ALIKE = 0.01  # part of the loss within which two are alike
_DRAWS = 4000  # of losses, to see which is the least

Range = tuple[float, float]  # of places
WHOLE: Range = (0.0, 1.0)


class Told(NamedTuple):
    """What a trial found.

    Attributes:
        place: Of its rate.
        loss: That it promises; infinity if it has failed.
        error: Standard deviation of its error, as far as others do not share it.
        seen: On the way.
    """

    place: float
    loss: float
    error: float = 0.0
    seen: Seen = Seen()

    @property
    def failed(self) -> bool:
        """Whether it promises nothing."""
        return math.isinf(self.loss)


class Bounds(NamedTuple):
    """Bounds for the fit of the model's numbers, in units of its values and of places."""

    amplitude: tuple[float, float]
    length: tuple[float, float]
    noise: tuple[float, float]


PUBLISHED = Bounds((0.01, 1000.0), (0.01, 100.0), (1e-5, 1e5))
OURS = Bounds((0.1, 10.0), (0.1, 2.0), (1e-6, 0.5))


def log_spaced(index: int, count: int) -> float:
    """Return the place of the index-th of `count` rates in equal ratios, from end to end."""
    return index / (count - 1) if count > 1 else 0.5


def spread_out(index: int, count: int, seed: int) -> float:
    """Return a random place in the index-th of `count` equal parts."""
    return (index + float(_random(seed).uniform())) / count


def with_errors(told: Sequence[Told], *, paired: bool) -> list[Told]:
    """Return what was told with errors by the losses after the trials, where there are any.

    An error is that of the difference from the least loss. If `paired`, the trials saw the same
    batches, and what these have in common is no error. A repetition would meet other batches on
    its way too, so the error is taken one and a half times. And whatever the batches say, a
    hundredth of a loss is no difference: where nothing is learned yet, on the plateau at the
    start, a small rate seems the best because it does nothing.
    """
    fine = [point for point in told if _fine(point)]
    if not fine:
        return list(told)
    losses, count = np.array([point.seen.after for point in fine]), len(fine[0].seen.after)
    means = losses.mean(axis=1)
    apart = losses - losses[means.argmin()] if paired else losses
    spread = apart.std(axis=1, ddof=1) if count > 1 else 0.0
    errors = np.hypot(_ONCE_MORE * spread / count**0.5, ALIKE * means)
    found = iter(errors.tolist())
    return [point._replace(error=next(found)) if _fine(point) else point for point in told]


def _fine(point: Told) -> bool:
    return bool(point.seen.after) and not point.failed


def by_bound(told: Sequence[Told], kappa: float, *, within: Range = WHOLE) -> float:
    """Return the place of the least lower bound, mean - kappa * deviation.

    It is apart from those told, and below all that have failed: a larger rate would fail too.

    Args:
        told: What the trials of this stage found, at least one.
        kappa: How much is not to know worth.
        within: The smallest and the largest place to try.
    """
    places = np.linspace(*within, 301)
    known = np.array([point.place for point in told])
    model = _fitted(known, standardised(told), OURS, restarts=0)
    mean, deviation = model(places)
    apart = np.abs(places[:, None] - known).min(axis=1) >= _SAME * (within[1] - within[0])
    below = places < min((point.place for point in told if point.failed), default=math.inf)
    useful = apart & below if (apart & below).any() else apart
    return float(places[np.argmin(np.where(useful, mean - kappa * deviation, np.inf))])


def likely(told: Sequence[Told], seed: int) -> float:
    """Return where the best place is to be expected: each counts by how probably it is the best.

    Where the losses do not tell the rates apart, that is in the middle of those tried; where there
    are no errors, it is the place of the least loss. None of those told has failed.
    """
    losses, errors = (np.array([getattr(p, name) for p in told]) for name in ("loss", "error"))
    drawn = _random(seed).standard_normal((_DRAWS, len(told))) * errors + losses
    chances = np.bincount(drawn.argmin(axis=1), minlength=len(told)) / _DRAWS
    return float(chances @ [point.place for point in told])


def standardised(told: Sequence[Told]) -> Array:
    """Return the losses in standard deviations from their mean; a failed trial has the worst."""
    worst = max((point.loss for point in told if not point.failed), default=0.0)
    losses = np.array([worst if point.failed else point.loss for point in told])
    return (losses - losses.mean()) / (losses.std() or 1.0)


def published(told: Sequence[Told], kappa: float, seed: int, *, within: Range = WHOLE) -> float:
    """Return the place of the least lower bound by L-BFGS, from the best 5 of 10,000 random ones.

    The process sees the losses minus their mean, and does not scale them: so did the version of
    scikit-learn with which the authors ran their code.
    A rate that was tried already is told once more, until the model asks for another one.
    """
    told, before, rng = list(told), {point.place: point for point in told}, _random(seed)
    for _ in range(_TIRED):
        place = _least_bound(told, kappa, rng, within)
        if place not in before:
            return place
        told.append(before[place])
    return float(rng.uniform(*within))


def _least_bound(
    told: Sequence[Told], kappa: float, rng: np.random.RandomState, within: Range
) -> float:
    with explained():
        from scipy.optimize import minimize

    losses = np.array([min(point.loss, WORST) for point in told])
    values = losses - losses.mean()
    places = np.array([point.place for point in told])
    model = _fitted(places, values, PUBLISHED, restarts=2, rng=rng)

    def bound(at: Array) -> Array:
        mean, deviation = model(at)
        return mean - kappa * deviation

    candidates = rng.uniform(*within, size=10_000)
    starts = candidates[np.argsort(bound(candidates))[:5]]
    found = [
        minimize(lambda at: bound(at)[0], [start], method="L-BFGS-B", bounds=[within])
        for start in starts
    ]
    return float(min(found, key=lambda result: result.fun).x[0])


def _fitted(
    places: Array,
    values: Array,
    bounds: Bounds,
    *,
    restarts: int,
    rng: np.random.RandomState | None = None,
) -> Posterior:
    """Fit amplitude, length and noise of a Matern-5/2 process; its deviations leave noise out."""
    with explained():
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, bounds.amplitude) * Matern(1.0, bounds.length, nu=2.5)
    kernel += WhiteKernel(min(1.0, bounds.noise[1]), bounds.noise)
    process: Any = GaussianProcessRegressor(kernel, n_restarts_optimizer=restarts, random_state=rng)
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
