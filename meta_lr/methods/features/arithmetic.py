"""One implementation of each formula, for tensors with gradients and for fast plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Number = Any  # a tensor, a float or a NumPy array: `+ - * /` work on all


class Arithmetic(NamedTuple):
    """The functions, beyond `+ - * /`, of one kind of number; none branches on a value."""

    log: Callable[[Number], Number]
    sqrt: Callable[[Number], Number]
    clip: Callable[[Number, float, float], Number]  # (x, low, high)
    pick: Callable[
        [Number, Number, Number], Number
    ]  # the second if the first is > 0, else the third
    exp: Callable[[Number], Number]
    tanh: Callable[[Number], Number]
    least: Callable[[Number, Number], Number]  # the smaller of two
    finite: Callable[[Number, float], Number]  # the first if it is finite, else the second


def _clip(x: float, low: float, high: float) -> float:
    return low if x < low else high if x > high else x  # NaN stays NaN, as in torch


def _sqrt(x: Tensor) -> Tensor:
    # The slope of the square root is infinite at 0, where a variance begins. Use 0 there instead.
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
ARRAYS = Arithmetic(  # of parallel copies; several times faster than tensors of the same size
    np.log,
    np.sqrt,
    lambda x, low, high: np.minimum(np.maximum(x, low), high),
    lambda sign, then, other: np.where(sign > 0, then, other),
    np.exp,
    np.tanh,
    np.minimum,
    lambda x, other: np.where(np.isfinite(x), x, other),
)


class Columns(NamedTuple):
    """The arithmetic for parallel copies: each number has the shape (copies,)."""

    ops: Arithmetic
    apart: Callable[[Tensor], Sequence[Number]]  # of (copies, numbers), float64
    together: Callable[[Sequence[Number], int], Tensor]  # the inverse; copies may share a number


def columns(*tensors: Tensor) -> Columns:
    """Return the columns for these tensors: tensors if one requires a gradient, else arrays."""
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return _TENSORS if wanted or any(tensor.is_cuda for tensor in tensors) else _ARRAYS


def _stack(numbers: Sequence[Number], copies: int) -> Tensor:
    like = next(number for number in numbers if isinstance(number, Tensor))
    full = [n if isinstance(n, Tensor) else torch.full_like(like, n) for n in numbers]
    return torch.stack(full, 1)


def _fill(numbers: Sequence[Number], copies: int) -> Tensor:
    rows = np.empty((len(numbers), copies))
    for place, number in enumerate(numbers):
        rows[place] = number
    return torch.from_numpy(rows.T)


_TENSORS = Columns(TENSORS, lambda tensor: tensor.unbind(1), _stack)
_ARRAYS = Columns(ARRAYS, lambda tensor: list(tensor.detach().numpy().T), _fill)
