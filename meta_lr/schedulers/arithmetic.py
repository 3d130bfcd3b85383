"""Formulas that are written once: for tensors (), with gradients, and for plain numbers, fast."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Number = Any  # a tensor () or a float: `+ - * /` mean the same for both


class Arithmetic(NamedTuple):
    """The functions, beyond `+ - * /`, of one kind of number; none looks at a value to branch."""

    log: Callable[[Number], Number]
    sqrt: Callable[[Number], Number]
    clip: Callable[[Number, float, float], Number]  # (x, low, high)
    pick: Callable[
        [Number, Number, Number], Number
    ]  # the second where the first is > 0, else the third
    exp: Callable[[Number], Number]
    tanh: Callable[[Number], Number]
    least: Callable[[Number, Number], Number]  # the smaller of two
    finite: Callable[[Number, float], Number]  # the first where it is finite, else the second


def _clip(x: float, low: float, high: float) -> float:
    return low if x < low else high if x > high else x  # NaN stays NaN, as in torch


def _sqrt(x: Tensor) -> Tensor:
    # The slope of the root is infinite at 0, where a variance begins; 0 is the useful value there.
    if not x.requires_grad:
        return x.sqrt()
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0 * x)


TENSORS = Arithmetic(
    torch.log,
    _sqrt,
    lambda x, low, high: torch.clamp(x, low, high),
    lambda sign, then, other: torch.where(sign > 0, then, other),
    torch.exp,
    torch.tanh,
    torch.minimum,
    lambda x, other: torch.where(x.isfinite(), x, other),
)
FLOATS = Arithmetic(
    math.log,
    math.sqrt,
    _clip,
    lambda sign, then, other: then if sign > 0 else other,
    math.exp,
    math.tanh,
    min,
    lambda x, other: x if math.isfinite(x) else other,
)
