"""Two ways to do the same, timed turn by turn, so that a noisy machine hits both alike.

Time is CPU time of the process, all its threads together: it does not count the time that other
processes are on. What remains of them, in caches and clock rates, hits both sides of a turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

RESAMPLES = 4000
LEAST = 6  # rounds, at least

Round = TypeVar("Round")


class Ratio(NamedTuple):
    """Median over rounds of ours / peer, and its 95 % bootstrap interval over rounds."""

    median: float
    low: float
    high: float
    rounds: int


def ratio(ours: Callable[[], float], peer: Callable[[], float], *, rounds: int) -> Ratio:
    """Time both in every round, the first of them in turn; one round warms up.

    Args:
        ours: Does it and returns the seconds that it took.
        peer: Likewise.
        rounds: How often.
    """
    pairs = [(ours(), peer()) if turn % 2 else (peer(), ours())[::-1] for turn in range(rounds + 1)]
    return summary([a / b for a, b in pairs[1:]])


def rounds_within(budget: float, one_round: Callable[[], Round]) -> list[Round]:
    """Return as many rounds as there is CPU time for, in seconds; one more before warms up."""
    found, until = list[Round](), time.process_time() + budget
    while len(found) <= LEAST or time.process_time() < until:
        found.append(one_round())
    return found[1:]


def summary(ratios: Sequence[float]) -> Ratio:
    """Return the median of the rounds' ratios with its interval."""
    values = np.asarray(ratios)
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return Ratio(float(np.median(values)), float(low), float(high), len(values))


def seconds(act: Callable[[], object]) -> float:
    """Return the CPU time that it takes."""
    start = time.process_time()
    act()
    return time.process_time() - start


def line(name: str, result: Ratio, aim: float) -> str:
    """Return one row of the table."""
    verdict = "met" if result.median <= aim else "MISSED"
    interval = f"[{result.low:.3f}, {result.high:.3f}]"
    return f"{name:58}{result.median:7.3f}  {interval}  aim {aim:.2f}  {verdict}"
