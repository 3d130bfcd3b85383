"""One feature of the training history: a number per step, and what it remembers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from meta_lr.methods.features.arithmetic import Arithmetic, Number
from meta_lr.optim.signals import Signals
from meta_lr.protocol import Need

LEAST = 1e-8  # a loss, norm or ratio below it counts as this where its logarithm is taken
SHARE = 20  # windows that are a share of the run: total_steps / SHARE steps,
SHORTEST = 10  # but at least so many


class Moment(NamedTuple):
    """What a feature is made from, besides what it remembers."""

    loss: Number
    step: int
    total_steps: int  # 0 where no feature of the set needs it
    signals: Signals | None = None  # None where no feature of the set needs them


Values = Sequence[Number]  # what a feature remembers


class Feature(NamedTuple):
    """One number per step, of shape (), and what it remembers."""

    meaning: str  # one line
    unit: str
    update: Callable[[Arithmetic, Moment, Values], tuple[Number, Values]]
    remembers: int = 0  # numbers, all 0 before the first step
    needs: Need = Need.LOSS


def log(ops: Arithmetic, value: Number) -> Number:
    """Return the logarithm of a number that is not negative."""
    return ops.log(ops.clip(value, LEAST, math.inf))


def share_of_run(total_steps: int) -> float:
    """Return the length in steps of a window that is a share of the run."""
    return max(total_steps / SHARE, float(SHORTEST))
