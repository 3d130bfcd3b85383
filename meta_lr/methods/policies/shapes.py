"""The shapes of LRBench's 34 policies: the position of the learning rate between its two ends.

Seven shapes fall or rise once. The other 27 are one of nine waves times one of three envelopes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from typing import NamedTuple


class Shape(NamedTuple):
    """A policy without its numbers.

    Its height, 0 at one end and 1 at the other, is a function of a count and of the numbers in
    `takes` without the ends k0 and k1, in this order.
    """

    takes: tuple[str, ...]  # names of the numbers that the policy takes, k0 first
    height: Callable[..., float]


class Wave(NamedTuple):
    """One cycle of a cyclic policy; its length and its start are multiples of l."""

    height: Callable[[float], float]
    length: int
    start: int


def _triangle(x: float) -> float:
    return 1.0 - abs(1.0 - x)


def _sine(x: float) -> float:
    return math.sin(math.pi * x / 2)


def _hump(x: float) -> float:
    return (1.0 - math.cos(math.pi * x)) / 2


def _saw(x: float) -> float:
    # As published: it falls from 1, but it is 0 where each tooth begins, including t = 0.
    return 1.0 - x if x else 0.0


WAVES = {
    "tri": Wave(_triangle, 2, 0),
    "dtri": Wave(_triangle, 2, 1),
    "sin": Wave(_sine, 2, 0),
    "dsin": Wave(_sine, 2, 1),
    "upcos": Wave(_hump, 2, 0),
    "cos": Wave(_hump, 2, 1),
    "rsw": Wave(_saw, 1, 0),
    "sinrsw": Wave(lambda x: _sine(_saw(x)), 1, 0),
    "cosrsw": Wave(lambda x: _hump(_saw(x)), 1, 0),
}


def _place(wave: Wave, t: float, length: float) -> tuple[float, float]:
    """Return the number of finished cycles, and the height in the present cycle."""
    cycles, rest = divmod(t + wave.start * length, wave.length * length)
    return cycles, wave.height(rest / length)


def _even(wave: Wave, t: float, length: float) -> float:
    return _place(wave, t, length)[1]


def _halved(wave: Wave, t: float, length: float) -> float:
    cycles, height = _place(wave, t, length)
    return height * 0.5**cycles


def _decaying(wave: Wave, t: float, length: float, gamma: float) -> float:
    return _place(wave, t, length)[1] * _power(gamma, t)


def _power(base: float, exponent: float) -> float:
    try:
        return base**exponent
    except OverflowError:
        return math.inf


def _sig(t: float, length: float, gamma: float) -> float:
    small = math.exp(-abs(gamma * (t - length)))  # never overflows
    return (1.0 if gamma * (t - length) >= 0 else small) / (1.0 + small)


_ENVELOPES = {
    "": (_even, ()),
    "2": (_halved, ()),
    "exp": (_decaying, ("gamma",)),
}
SHAPES = {
    "fix": Shape(("k0",), lambda t: 1.0),
    "step": Shape(("k0", "l", "gamma"), lambda t, length, gamma: _power(gamma, t // length)),
    "nstep": Shape(("k0", "l", "gamma"), lambda t, at, gamma: _power(gamma, bisect_right(at, t))),
    "exp": Shape(("k0", "gamma"), lambda t, gamma: _power(gamma, t)),
    "inv": Shape(("k0", "gamma", "p"), lambda t, gamma, p: (1.0 + gamma * t) ** -p),
    "poly": Shape(("k0", "k1", "l", "p"), lambda t, length, p: max(0.0, 1.0 - t / length) ** p),
    "sig": Shape(("k0", "l", "gamma"), _sig),
    **{
        f"{name}{suffix}": Shape(("k0", "k1", "l", *more), partial(envelope, wave))
        for name, wave in WAVES.items()
        for suffix, (envelope, more) in _ENVELOPES.items()
    },
}
