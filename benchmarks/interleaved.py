"""Two ways to do the same, timed turn by turn, so that a noisy machine hits both alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable


def ratio(
    ours: Callable[[], float], peer: Callable[[], float], *, rounds: int
) -> tuple[float, float, float]:
    """Return the median over rounds of ours / peer, and its quartiles; one round warms up."""
    pairs = [(ours(), peer()) if turn % 2 else (peer(), ours())[::-1] for turn in range(rounds + 1)]
    ratios = [a / b for a, b in pairs[1:]]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high


def line(name: str, result: tuple[float, float, float], aim: float) -> str:
    """Return one row of the table."""
    middle, low, high = result
    verdict = "met" if middle <= aim else "MISSED"
    return f"{name:58}{middle:7.3f}  [{low:.3f}, {high:.3f}]  aim {aim:.2f}  {verdict}"
