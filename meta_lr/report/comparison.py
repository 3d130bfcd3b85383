"""Comparison of two methods on the same seeds: the difference, its interval and its p value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from meta_lr.extras import explained

VERDICT_SEEDS = 10  # with fewer paired seeds there is no verdict and no p
SHOW_EACH_RUN = 5  # with fewer runs, each run is shown

Verdict = Literal[
    "better", "worse", "no difference found", "too few seeds for a verdict", "no interval"
]


@dataclass(frozen=True)
class Comparison:
    """The paired difference `method - reference` over the common seeds.

    `low` and `high` are the bounds of the 95 % confidence interval (nan if `paired_interval` gives
    none). `p` is that of the two-sided sign-flip test; None below ten seeds.
    """

    method: str
    reference: str
    differences: Mapping[int, float]
    mean: float
    low: float
    high: float
    p: float | None
    verdict: Verdict

    @property
    def seeds(self) -> int:
        """The number of seeds for which both methods finished."""
        return len(self.differences)

    @property
    def enough(self) -> bool:
        """Whether there are enough seeds for a verdict."""
        return self.seeds >= VERDICT_SEEDS


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (nan below two values, or if one is infinite)."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return float("nan"), float("nan")
    defined = array.size > 1 and bool(np.isfinite(array).all())
    return float(array.mean()), float(array.std(ddof=1)) if defined else float("nan")


def compare(
    method: tuple[str, Mapping[int, float]],
    reference: tuple[str, Mapping[int, float]],
    *,
    higher_is_better: bool,
) -> Comparison:
    """Compare two methods, each a label and its value per seed, on the seeds they share."""
    seeds = sorted(set(method[1]) & set(reference[1]))
    pairs = {seed: (method[1][seed], reference[1][seed]) for seed in seeds}
    # inf - inf is not a number: both diverged
    differences = {seed: 0.0 if a == b else a - b for seed, (a, b) in pairs.items()}
    values = list(differences.values())
    mean, _ = mean_and_spread(values)
    low, high = paired_interval(values)
    p = sign_flip_p(values) if len(values) >= VERDICT_SEEDS else None
    verdict = _verdict(len(values), mean, (low, high), higher_is_better)
    return Comparison(method[0], reference[0], differences, mean, low, high, p, verdict)


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % t confidence interval of the mean difference.

    It is nan in three cases: with fewer than three differences (with two it is too wide to be
    useful), if all differences are equal (no spread), and if one is infinite.
    """
    mean, spread = mean_and_spread(differences)
    if len(differences) < 3 or np.isnan(spread) or spread <= 1e-9 * abs(mean):
        return float("nan"), float("nan")
    with explained():
        from scipy import stats

    n = len(differences)
    half = float(stats.t.ppf(0.975, n - 1)) * spread / n**0.5
    return mean - half, mean + half


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Return the two-sided p of the sign-flip (Fisher randomisation) test of a zero mean.

    Under the null hypothesis, both signs of each difference are equally likely. The test is exact
    up to 16 differences. With more, it uses 65,536 sign vectors drawn with a fixed seed, including
    the observed one. Return None if a difference is not finite.
    """
    array = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(array).all():
        return None
    sums = np.abs(_signs(array.size) @ array)
    tolerance = 1e-12 * np.abs(array).sum()  # equal sums may differ in their last bit
    return float((sums >= np.abs(array.sum()) - tolerance).mean())


def _signs(n: int) -> np.ndarray:
    """Return sign vectors of shape (flips, n), all +1 in the first."""
    if n <= 16:
        flips = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        flips = np.random.default_rng(0).integers(0, 2, (2**16, n))
        flips[0] = 0
    return 1.0 - 2.0 * flips


def _verdict(n: int, mean: float, interval: tuple[float, float], higher_is_better: bool) -> Verdict:
    low, high = interval
    if n < VERDICT_SEEDS:
        return "too few seeds for a verdict"
    if np.isnan(low):
        return "no interval" if mean else "no difference found"
    if low <= 0 <= high:
        return "no difference found"
    return "better" if (low > 0) == higher_is_better else "worse"
