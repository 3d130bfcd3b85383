"""Signals for a learning rate, computed from the weights, the gradients and the last step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meta_lr.optim.shards import local
from meta_lr.vectors import Vector

_LARGEST_DOT = 2**31 - 1  # elements; the limit of torch.dot on a GPU
_TINY = 1e-36  # smallest square in a denominator


class Signals(NamedTuple):
    """Four numbers of one step: tensors of shape (), or (copies,), or plain numbers.

    All are measured at the weights w of the step, with its gradient g, before the optimizer changes
    w. They cover the tensors selected by `chosen`, each in units of its own norm |w_i|. They are
    therefore invariant to a rescaling of a tensor, and large and small tensors have equal weight.
    They do not depend on the type of the optimizer: its last step is measured by the change of the
    weights.
    """

    gradient: Any  # root of the sum of (|w_i| |g_i|)^2
    update: Any  # root mean square of |w_i before - w_i| / |w_i|, the last step; 0 at the first one
    alignment: Any  # cosine of g and the last step down; positive if a longer step is better
    spread: Any  # root mean square of |w_i - average of w_i| / |w_i|, over a twentieth of the run


class Pieces(NamedTuple):
    """The measured tensors as pieces of a flat tensor, in their order."""

    lengths: tuple[int, ...]  # elements of each piece
    usual: tuple[float, ...]  # the norm of each piece under torch's usual initialisation


def chosen(shapes: Sequence[Sequence[int]], trained: Sequence[bool] = ()) -> tuple[int, ...]:
    """Return the indices of the measured tensors: trained ones of two or more dimensions.

    The size of a bias, of a normalisation layer's scale or of a frozen tensor has no information
    about the learning rate. If a model has no other tensors, all tensors are measured.

    Args:
        shapes: Shapes of the parameters.
        trained: Whether each parameter requires a gradient; () if all do.
    """
    places = [place for place, trains in enumerate(trained) if trains] or range(len(shapes))
    return tuple(place for place in places if len(shapes[place]) > 1) or tuple(places)


def flat(tensors: Vector) -> Tensor:
    """Return the tensors as one tensor (numbers,), in new memory, in float32 or better.

    For sharded tensors, it holds the elements of this rank.
    """
    joined = torch.cat([local(tensor).flatten() for tensor in tensors])
    return joined.float() if joined.itemsize < 4 else joined


def flat_copies(tensors: Vector) -> Tensor:
    """Return the tensors of copies as one tensor (copies, numbers)."""
    return torch.cat([tensor.flatten(1) for tensor in tensors], 1)


def squares(tensor: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the squared norm of each piece of a flat tensor, (pieces,) or (copies, pieces).

    Args:
        tensor: The result of `flat`, (numbers,) or (copies, numbers).
        lengths: Elements of each piece.
    """
    pieces = tensor.split([*lengths], -1)
    if tensor.ndim == 1:
        return torch.stack(torch._foreach_norm(pieces)).square()
    return torch.stack([dot(piece, piece) for piece in pieces], -1)


def sums(
    weights: Tensor, grads: Tensor, before: Tensor, average: Tensor, lengths: Sequence[int]
) -> Tensor:
    """Return squared norms and a product, (4 pieces + 1,) or (copies, 4 pieces + 1).

    They can be added over shards; `totals` turns them into the input of `signals_of`.

    Args:
        weights: The weights as returned by `flat`, (numbers,) or (copies, numbers); the other
            tensors have the same shape.
        grads: The gradients.
        before: The weights one step ago.
        average: The smoothed weights, including the present ones.
        lengths: Elements of each tensor.
    """
    moved, way = torch._foreach_sub((before, weights), (weights, average))
    parts = [squares(tensor, lengths) for tensor in (weights, grads, moved, way)]
    return torch.cat([*parts, dot(grads, moved).unsqueeze(-1)], -1)


def totals(found: Tensor, least: Tensor) -> Tensor:
    """Return the input of `signals_of`, (4,) or (copies, 4), from sums over whole tensors.

    Args:
        found: The result of `sums`.
        least: Lower bound of the norm of each tensor, (pieces,) or (copies, pieces).
    """
    weights, grads, moved, way = found[..., :-1].unflatten(-1, (4, -1)).unbind(-2)
    weights = torch.maximum(weights, least.square()) + _TINY
    update, spread = (moved / weights).mean(-1), (way / weights).mean(-1)
    along = found[..., -1] / math.sqrt(weights.shape[-1])
    return torch.stack([(weights * grads).sum(-1), update, along, spread], -1)


def signals_of(numbers: Sequence[Any], root: Callable[[Any], Any] = math.sqrt) -> Signals:
    """Return the signals from the result of `totals`, given as four numbers or as tensors."""
    gradient, update, along, spread = numbers
    gradient, update = root(gradient), root(update)
    return Signals(gradient, update, along / (gradient * update + _TINY), root(spread))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product over the last dimension."""
    return torch.dot(a, b) if a.ndim == 1 and len(a) <= _LARGEST_DOT else (a * b).sum(-1)


def pieces_of(shapes: Sequence[Sequence[int]]) -> Pieces:
    """Return the pieces for measured tensors of these shapes."""
    return Pieces(tuple(map(math.prod, shapes)), tuple(map(_usual_norm, shapes)))


def least_norms(norms: Tensor, usual: Sequence[float]) -> Tensor:
    """Return lower bounds of norms: the usual norm for each tensor that begins at zero.

    A tensor that begins at zero has no size. Its lower bound is the size that torch's usual
    initialisation would give it.

    Args:
        norms: Norms at the start of the run, (pieces,) or (copies, pieces).
        usual: See `Pieces`.
    """
    return torch.where(norms > 0, 0.0, norms.new_tensor(usual))


def _usual_norm(shape: Sequence[int]) -> float:
    return math.sqrt(max((*shape[:1], 1)) / 3)  # also for a tensor without elements
