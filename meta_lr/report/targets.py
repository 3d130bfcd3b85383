"""Time to a target value, and performance profiles over several problems.

Reference: Dolan and More, "Benchmarking optimization software with performance profiles",
Mathematical Programming 91 (2002), arXiv cs/0102001.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meta_lr.report.outcomes import Metric, validations
from meta_lr.report.runs import Array, Run

WIDEST = 4.0  # the largest multiple of the best time that a profile shows

Times = Mapping[int, float]  # seed -> steps or cost until the target; inf: never reached


@dataclass(frozen=True)
class Profile:
    """The share of (problem, seed) pairs that a method solves within `ratio` times the best.

    `shares` is sorted: the method that solves most, over all ratios, is first.
    """

    ratios: Array
    shares: Mapping[str, Array]
    num_pairs: int

    def share_within(self, label: str, ratio: float) -> float:
        """Return the share that the method solves within `ratio` times the best; `ratio` >= 1."""
        return float(self.shares[label][np.searchsorted(self.ratios, ratio, side="right") - 1])


def time_to_target(run: Run, metric: Metric, target: float) -> tuple[float, float]:
    """Return the (steps, cost) at the first validation that reaches the target, else (inf, inf).

    A diverged run never reaches the target.
    """
    if not run.diverged:
        for evaluation in validations(run):
            if metric.reaches(metric.of(evaluation), target):
                return float(evaluation.step), evaluation.cost
    return math.inf, math.inf


def profile(problems: Sequence[Mapping[str, Times]]) -> Profile | None:
    """Return the profile of the common methods of all problems; None below two of either.

    Each problem maps a method's label to its times. Only seeds that all these methods ran are used.
    A pair that no method solves counts as unsolved for all methods.
    """
    labels = [label for label in problems[0] if all(label in times for times in problems)]
    if len(problems) < 2 or len(labels) < 2:
        return None
    pairs = [
        [times[label][seed] for label in labels]
        for times in problems
        for seed in sorted(set.intersection(*(set(times[label]) for label in labels)))
    ]
    if not pairs:
        return None
    ratios = np.union1d(np.geomspace(1.0, WIDEST, 121), np.arange(1.0, WIDEST, 0.5))
    relative = _relative(np.array(pairs, dtype=np.float64))
    shares = (relative[:, :, None] <= ratios * (1 + 1e-9)).mean(axis=0)
    order = np.argsort(-shares.mean(axis=1), kind="stable")
    return Profile(ratios, {labels[i]: shares[i] for i in order}, len(pairs))


def _relative(times: Array) -> Array:
    """Divide times of shape (pairs, methods) by the best of each pair; inf stays inf."""
    best = times.min(axis=1, keepdims=True)
    solved = np.isfinite(times)
    return np.where(
        solved, times / np.where(np.isfinite(best), np.maximum(best, 1e-300), 1), np.inf
    )
