"""Signals: what weights, gradients and the last displacement say about a learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meta_lr.shards import local
from meta_lr.vectors import Vector

_LARGEST_DOT = 2**31 - 1  # numbers; torch.dot takes no more on a GPU


class Signals(NamedTuple):
    """Five numbers of one step: tensors of shape (), or (copies,), or plain numbers.

    All are taken at the weights w of the step, with its gradient g and before the optimizer changes
    w, over the tensors that `chosen` names. None of them depends on what the optimizer is: its last
    step is measured by how far the weights moved.
    """

    weights: Any  # |w|
    grads: Any  # |g|
    moved: Any  # |w_before - w|: the length of the last step; 0 at the first one
    along: Any  # g . (w_before - w): positive where the last step could have been longer
    travelled: Any  # |w - w_start|


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


def sums(weights: Tensor, grads: Tensor, before: Tensor, start: Tensor) -> Tensor:
    """Return the squared norms and the product (5,), or (copies, 5), that signals are made of.

    They can be added up over shards. They are in the order of `Signals`.

    Args:
        weights: As `flat` gives them, (numbers,) or (copies, numbers), as are all others.
        grads: Their gradients.
        before: The weights one step ago.
        start: The weights at the start of the run.
    """
    moved, way = torch._foreach_sub((before, weights), (weights, start))
    pairs = ((weights, weights), (grads, grads), (moved, moved), (grads, moved), (way, way))
    return torch.stack([dot(a, b) for a, b in pairs], -1)


def signals_of(totals: Sequence[Any], root: Callable[[Any], Any] = math.sqrt) -> Signals:
    """Return the signals of the totals that `sums` gave: of five numbers, or of tensors."""
    weights, grads, moved, along, travelled = totals
    return Signals(root(weights), root(grads), root(moved), along, root(travelled))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product over the last dimension."""
    return torch.dot(a, b) if a.ndim == 1 and len(a) <= _LARGEST_DOT else (a * b).sum(-1)


def usual_norm(shapes: Sequence[Sequence[int]]) -> float:
    """Return the norm that torch's own initialisation would give to tensors of these shapes.

    Weights that all begin at zero have no size of their own; this one counts in its place.
    """
    return math.sqrt(sum(shape[0] if len(shape) else 1 for shape in shapes) / 3)
