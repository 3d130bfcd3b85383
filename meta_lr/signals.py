"""Signals: what weights, gradients and the last displacement say about a learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meta_lr import vectors
from meta_lr.vectors import Vector


class Signals(NamedTuple):
    """Five numbers of one step: tensors of shape (), or (copies,), or plain numbers.

    All are taken at the weights w of the step, with its gradient g and before the optimizer changes
    w, over the tensors that `chosen` names. None of them depends on what the optimizer is: its last
    step is measured by how far the weights went.
    """

    weights: Any  # |w|
    grads: Any  # |g|
    moved: Any  # |w_before - w|: the length of the last step; 0 at the first one
    along: Any  # g . (w_before - w): positive where the last step could have been longer
    travelled: Any  # |w - w_start|


def chosen(shapes: Sequence[Sequence[int]]) -> list[int]:
    """Return the places of the tensors that are measured: those of two dimensions or more.

    The size of a bias, or of a normalisation layer's scale, says nothing about the learning rate. A
    model that has nothing else is measured whole.

    Args:
        shapes: Of the parameters.
    """
    matrices = [place for place, shape in enumerate(shapes) if len(shape) > 1]
    return matrices or list(range(len(shapes)))


def measure(params: Vector, grads: Vector, before: Vector, start: Vector) -> Signals:
    """Return the signals of one step, tensors of shape () where the weights are.

    Args:
        params: The weights now.
        grads: Their gradients, shaped alike.
        before: The weights one step ago, shaped alike.
        start: The weights at the start of the run, shaped alike.
    """
    moved = torch._foreach_sub(list(before), list(params))
    return Signals(
        vectors.norm(params),
        vectors.norm(grads),
        vectors.norm(moved),
        vectors.dot(grads, moved),
        vectors.norm(torch._foreach_sub(list(params), list(start))),
    )


def measure_copies(params: Tensor, grads: Tensor, before: Tensor, start: Tensor) -> Signals:
    """Return the signals (copies,) of copies; each argument is (copies, numbers), see `flat`."""
    moved = before - params
    return Signals(
        params.norm(dim=1),
        grads.norm(dim=1),
        moved.norm(dim=1),
        (grads * moved).sum(1),
        (params - start).norm(dim=1),
    )


def flat(copies: Vector) -> Tensor:
    """Return the tensors of copies as one, (copies, numbers)."""
    return torch.cat([tensor.flatten(1) for tensor in copies], 1)
