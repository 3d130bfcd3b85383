"""One feature of the training history: a number per step, with its memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from meta_lr.methods.features.arithmetic import Arithmetic, Number
from meta_lr.optim.signals import Signals
from meta_lr.protocol import Need

LEAST = 1e-8  # a loss, norm or ratio is at least this in a logarithm
SHARE = 20  # a window that is a share of the run has total_steps / SHARE steps,
SHORTEST = 10  # but at least this many


class Moment(NamedTuple):
    """The inputs of a feature, besides its memory."""

    loss: Number
    step: int
    total_steps: int  # 0 if no feature of the set needs it
    signals: Signals | None = None  # None if no feature of the set needs them


Values = Sequence[Number]  # the memory of a feature


class Feature(NamedTuple):
    """One number per step, of shape (), with its memory."""

    meaning: str  # one line
    unit: str
    update: Callable[[Arithmetic, Moment, Values], tuple[Number, Values]]
    remembers: int = 0  # size of the memory; all numbers are 0 before the first step
    needs: Need = Need.LOSS


def log(ops: Arithmetic, value: Number) -> Number:
    """Return the logarithm of a number that is not negative."""
    return ops.log(ops.clip(value, LEAST, math.inf))


def share_of_run(total_steps: int) -> float:
    """Return the length in steps of a window that is a share of the run."""
    return max(total_steps / SHARE, float(SHORTEST))
