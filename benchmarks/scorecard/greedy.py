"""GreedyLR: the learning rate grows while the loss improves, and falls otherwise.

Update:
    m = mean of the last 50 losses;
    better where m < best - 1e-6, and then best = m;
    lr / 0.95, at most 1, after 11 better steps in a row;
    0.95 lr, at least 1e-3, after 11 steps in a row that are not better.
Reference:
    Subramanian et al. 2025, arXiv 2512.14527. The rule and its defaults are those of the class
    of this name in `transformers`.
Deviations:
    1. It reads the loss of each batch instead of evaluations, because runs are too short for
       evaluations. Single batches never improve 11 times in a row. So its own smoothing, which is
       off by default, is on.
    2. No reset after 500 reductions at the smallest learning rate: no run is that long.
Cost:
    none
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import NamedTuple

FACTOR, PATIENCE, WINDOW, THRESHOLD = 0.95, 10, 50, 1e-6
LOWEST, HIGHEST = 1e-3, 1.0


class Greedy(NamedTuple):
    """The state of the rule."""

    lr: float
    best: float = math.inf
    good: int = 0  # steps in a row that were better
    bad: int = 0  # steps in a row that were not
    recent: tuple[float, ...] = ()


def follow(at: Greedy, loss: float) -> Greedy:
    """Return the state after a step with this loss; its `lr` is for the next step."""
    recent = (*at.recent, loss)[-WINDOW:]
    level = fmean(recent)
    better = level < at.best - THRESHOLD
    good, bad = (at.good + 1, 0) if better else (0, at.bad + 1)
    lr, best = at.lr, level if better else at.best
    if good > PATIENCE:
        lr, good = min(lr / FACTOR, HIGHEST), 0
    elif bad > PATIENCE:
        lr, bad = max(lr * FACTOR, LOWEST), 0
    return Greedy(lr, best, good, bad, recent)
