"""Time two ways to do the same in turn, so that noise of the machine affects both equally.

Time is CPU time of the process, all its threads together. It does not count the time of other
processes. Their remaining effects, on caches and clock rates, affect both sides of a turn.
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
    """Time both in every round, with alternating order; one more round is a warm-up.

    Args:
        ours: Does the work and returns its time in seconds.
        peer: The same for the peer.
        rounds: Number of rounds.
    """
    pairs = [(ours(), peer()) if turn % 2 else (peer(), ours())[::-1] for turn in range(rounds + 1)]
    return summary([a / b for a, b in pairs[1:]])


def rounds_within(budget: float, one_round: Callable[[], Round]) -> list[Round]:
    """Return as many rounds as the CPU time in seconds allows; one more before is a warm-up."""
    found, until = list[Round](), time.process_time() + budget
    while len(found) <= LEAST or time.process_time() < until:
        found.append(one_round())
    return found[1:]


def summary(ratios: Sequence[float]) -> Ratio:
    """Return the median of the rounds' ratios with its confidence interval."""
    values = np.asarray(ratios)
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return Ratio(float(np.median(values)), float(low), float(high), len(values))


def seconds(act: Callable[[], object]) -> float:
    """Return the CPU time of the call."""
    start = time.process_time()
    act()
    return time.process_time() - start


def line(name: str, result: Ratio, aim: float) -> str:
    """Return one row of the table."""
    verdict = "met" if result.median <= aim else "MISSED"
    interval = f"[{result.low:.3f}, {result.high:.3f}]"
    return f"{name:58}{result.median:7.3f}  {interval}  aim {aim:.2f}  {verdict}"
