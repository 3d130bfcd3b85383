"""The meta-gradient of a long look-ahead in the memory of one step's graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from meta_lr.bilevel.look_ahead import LookAhead, Point, as_leaves, detached, flowing
from meta_lr.training.sandbox import HVP


def adjoint(
    run: LookAhead,
    start: Point,
    phi: Sequence[Tensor],
    weights: Sequence[float],
    *,
    second_order: bool = True,
) -> tuple[float, list[Tensor], Point]:
    """Return the objective, its gradient in `phi`, and where the look-ahead ends.

    The look-ahead is taken once without a graph, keeping weights, optimizer state, buffers and the
    controller's state of each step: K times their size is all the memory that grows with K. Then
    it is walked back: each step's graph is built anew, gives its vector-Jacobian product, and is
    dropped.

    Args:
        run: The steps.
        start: Where the first one begins.
        phi: The controller's weights, which require gradients.
        weights: Of the meta losses after each step; their number is K.
        second_order: False leaves out the Hessians, an approximation.
    """
    points = [start]
    for k in range(len(weights)):
        points.append(detached(run.step(as_leaves(points[-1]), k, second_order=False)))
    end, value, total = points[-1], 0.0, [torch.zeros_like(p) for p in phi]
    slopes: list[Tensor | None] = [None for _ in flowing(points[-1])]
    for k in reversed(range(len(weights))):
        after = as_leaves(points.pop())
        if weights[k]:
            score = weights[k] * run.score(after, len(weights) - 1 - k)
            value += score.item()
            slopes = _sum(slopes, torch.autograd.grad(score, after.params, allow_unused=True))
        if all(slope is None for slope in slopes):
            continue  # nothing is scored from here on
        before = as_leaves(points[-1])
        leaves = flowing(before)
        ends = flowing(run.step(before, k, second_order=second_order))
        met = [
            (e, s) for e, s in zip(ends, slopes, strict=True) if s is not None and e.requires_grad
        ]
        outputs, cotangents = zip(*met, strict=True)
        if second_order:
            run.sandbox.cost += HVP - 1.0  # the step that is rebuilt counts as one already
        grads = torch.autograd.grad(outputs, [*leaves, *phi], cotangents, allow_unused=True)
        slopes = list(grads[: len(leaves)])
        total = [
            t if g is None else t + g for t, g in zip(total, grads[len(leaves) :], strict=True)
        ]
    return value, total, end


def _sum(slopes: list[Tensor | None], more: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Add the slopes in the parameters, which come first, to those in all that flows."""
    added = [
        a if b is None else b if a is None else a + b for a, b in zip(slopes, more, strict=False)
    ]
    return [*added, *slopes[len(more) :]]
