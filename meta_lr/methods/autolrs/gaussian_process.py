"""Where the published search tries next: the least lower bound of a Gaussian process.

The process is scikit-learn's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from meta_lr.extras import explained
from meta_lr.methods.autolrs.round import Told

Array = np.ndarray[Any, np.dtype[np.float64]]
Posterior = Callable[[Array], tuple[Array, Array]]  # places to means and standard deviations

WORST = 1e6  # what the published code tells the model of a loss that is not a number
_TIRED = 20  # times that a model may insist on a rate which it knows


def next_place(told: Sequence[Told], kappa: float, seed: int) -> float:
    """Return the place of the least lower bound, mean - kappa * deviation; the first is random.

    If the model asks for a learning rate that was tried already, its result is added again, until
    the model asks for another one.
    """
    told, before = list(told), {point.place: point for point in told}
    rng = np.random.RandomState(seed % 2**32)
    for _ in range(_TIRED if told else 0):
        place = _least_bound(told, kappa, rng)
        if place not in before:
            return place
        told.append(before[place])
    return float(rng.uniform())


def _least_bound(told: Sequence[Told], kappa: float, rng: np.random.RandomState) -> float:
    """Return the least of the bounds that L-BFGS finds from the best 5 of 10,000 random places.

    The process sees the losses minus their mean, and does not scale them: so did the version of
    scikit-learn with which the authors ran their code.
    """
    with explained():
        from scipy.optimize import minimize

    losses = np.array([min(point.loss, WORST) for point in told])
    model = _fitted(np.array([point.place for point in told]), losses - losses.mean(), rng)

    def bound(at: Array) -> Array:
        mean, deviation = model(at)
        return mean - kappa * deviation

    candidates = rng.uniform(size=10_000)
    starts = candidates[np.argsort(bound(candidates))[:5]]
    found = [
        minimize(lambda at: bound(at)[0], [start], method="L-BFGS-B", bounds=[(0.0, 1.0)])
        for start in starts
    ]
    return float(min(found, key=lambda result: result.fun).x[0])


def _fitted(places: Array, values: Array, rng: np.random.RandomState) -> Posterior:
    """Fit amplitude, length and noise of a Matern-5/2 process; its deviations leave noise out."""
    with explained():
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, (0.01, 1000.0)) * Matern(1.0, (0.01, 100.0), nu=2.5)
    kernel += WhiteKernel(1.0, (1e-5, 1e5))
    process: Any = GaussianProcessRegressor(kernel, n_restarts_optimizer=2, random_state=rng)
    with _silence():
        process.fit(places[:, None], values)
    noise = process.kernel_.k2.noise_level

    def predict(at: Array) -> tuple[Array, Array]:
        with _silence():
            mean, deviation = process.predict(np.asarray(at)[:, None], return_std=True)
        return mean, np.sqrt(np.maximum(deviation**2 - noise, 0.0))

    return predict


@contextmanager
def _silence() -> Iterator[None]:
    """Say nothing of a number that is fitted to its bound: ten points often leave it there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
