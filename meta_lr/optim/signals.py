"""Signals: what weights, gradients and the last displacement say about a learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meta_lr.optim.shards import local
from meta_lr.vectors import Vector

_LARGEST_DOT = 2**31 - 1  # numbers; torch.dot takes no more on a GPU
_TINY = 1e-36  # what a square that is divided by has at least


class Signals(NamedTuple):
    """Four numbers of one step: tensors of shape (), or (copies,), or plain numbers.

    All are taken at the weights w of the step, with its gradient g and before the optimizer changes
    w, over the tensors that `chosen` names, each in units of its own norm |w_i|. So none of them
    depends on the unit of a tensor, and a large tensor counts as much as a small one. None depends
    on what the optimizer is: its last step is measured by how far the weights moved.
    """

    gradient: Any  # root of the sum of (|w_i| |g_i|)^2
    update: Any  # root mean square of |w_i before - w_i| / |w_i|, the last step; 0 at the first one
    alignment: Any  # cosine between g and the last step down: positive where it could be longer
    spread: Any  # root mean square of |w_i - average of w_i| / |w_i|, over a twentieth of the run


class Pieces(NamedTuple):
    """The measured tensors in a flat one, in their order."""

    lengths: tuple[int, ...]  # numbers of each
    usual: tuple[float, ...]  # the norm of each as torch would initialise it


def chosen(shapes: Sequence[Sequence[int]], trained: Sequence[bool] = ()) -> tuple[int, ...]:
    """Return the places of the tensors that are measured: trained ones of two dimensions or more.

    The size of a bias, of a normalisation layer's scale or of a frozen tensor says nothing about
    the learning rate. A model that has nothing else is measured whole.

    Args:
        shapes: Of the parameters.
        trained: Whether each requires a gradient; () if all do.
    """
    places = [place for place, trains in enumerate(trained) if trains] or range(len(shapes))
    return tuple(place for place in places if len(shapes[place]) > 1) or tuple(places)


def flat(tensors: Vector) -> Tensor:
    """Return the tensors as one of shape (numbers,), in new memory and at least in float32.

    Of sharded tensors: the numbers that this rank holds.
    """
    joined = torch.cat([local(tensor).flatten() for tensor in tensors])
    return joined.float() if joined.itemsize < 4 else joined


def flat_copies(tensors: Vector) -> Tensor:
    """Return the tensors of copies as one of shape (copies, numbers)."""
    return torch.cat([tensor.flatten(1) for tensor in tensors], 1)


def squares(tensor: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the squared norm of each piece of a flat tensor, (pieces,) or (copies, pieces).

    Args:
        tensor: As `flat` gives it, (numbers,) or (copies, numbers).
        lengths: Numbers of each piece.
    """
    pieces = tensor.split([*lengths], -1)
    if tensor.ndim == 1:
        return torch.stack(torch._foreach_norm(pieces)).square()
    return torch.stack([dot(piece, piece) for piece in pieces], -1)


def sums(
    weights: Tensor, grads: Tensor, before: Tensor, average: Tensor, lengths: Sequence[int]
) -> Tensor:
    """Return squared norms and a product, (4 pieces + 1,) or (copies, 4 pieces + 1).

    They can be added up over shards; `totals` makes of them what the signals need.

    Args:
        weights: As `flat` gives them, (numbers,) or (copies, numbers), as are all others.
        grads: Their gradients.
        before: The weights one step ago.
        average: The smoothed weights, these weights in it.
        lengths: Numbers of each tensor.
    """
    moved, way = torch._foreach_sub((before, weights), (weights, average))
    parts = [squares(tensor, lengths) for tensor in (weights, grads, moved, way)]
    return torch.cat([*parts, dot(grads, moved).unsqueeze(-1)], -1)


def totals(found: Tensor, least: Tensor) -> Tensor:
    """Return what `signals_of` takes, (4,) or (copies, 4), of sums over whole tensors.

    Args:
        found: As `sums` gives them.
        least: What the norm of each tensor counts as at least, (pieces,) or (copies, pieces).
    """
    weights, grads, moved, way = found[..., :-1].unflatten(-1, (4, -1)).unbind(-2)
    weights = torch.maximum(weights, least.square()) + _TINY
    update, spread = (moved / weights).mean(-1), (way / weights).mean(-1)
    along = found[..., -1] / math.sqrt(weights.shape[-1])
    return torch.stack([(weights * grads).sum(-1), update, along, spread], -1)


def signals_of(numbers: Sequence[Any], root: Callable[[Any], Any] = math.sqrt) -> Signals:
    """Return the signals of the totals that `totals` gave: of four numbers, or of tensors."""
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
    """Return what norms count as at least: where one is 0 at the start of a run, the usual one.

    A tensor that begins at zero has no size of its own; the size that torch's own initialisation
    would give it counts in its place.

    Args:
        norms: At the start of the run, (pieces,) or (copies, pieces).
        usual: See `Pieces`.
    """
    return torch.where(norms > 0, 0.0, norms.new_tensor(usual))


def _usual_norm(shape: Sequence[int]) -> float:
    return math.sqrt(max((*shape[:1], 1)) / 3)  # of a tensor without numbers too
