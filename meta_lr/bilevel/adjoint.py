"""The hypergradient of a long unroll, in the memory of one step's graph."""

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
    """Return the objective, its gradient with respect to `phi`, and the end point of the unroll.

    The forward pass takes K steps without a graph. It stores the weights, optimizer state, buffers
    and controller state of each step. Only this storage grows with K. The backward pass goes from
    the last step to the first: it builds the graph of one step again, computes its vector-Jacobian
    product, and frees the graph.

    Args:
        run: The steps of the unroll.
        start: The point where the first step begins.
        phi: The controller's meta-parameters, which require gradients.
        weights: Weights of the meta losses after each step; their number is K.
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
            continue  # this step and the later ones are not scored
        before = as_leaves(points[-1])
        leaves = flowing(before)
        ends = flowing(run.step(before, k, second_order=second_order))
        met = [
            (e, s) for e, s in zip(ends, slopes, strict=True) if s is not None and e.requires_grad
        ]
        outputs, cotangents = zip(*met, strict=True)
        if second_order:
            run.sandbox.cost += HVP - 1.0  # the repeated step counts as one already
        grads = torch.autograd.grad(outputs, [*leaves, *phi], cotangents, allow_unused=True)
        slopes = list(grads[: len(leaves)])
        total = [
            t if g is None else t + g for t, g in zip(total, grads[len(leaves) :], strict=True)
        ]
    return value, total, end


def _sum(slopes: list[Tensor | None], more: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Add the gradients `more` of the parameters, which come first, to `slopes`."""
    added = [
        a if b is None else b if a is None else a + b for a, b in zip(slopes, more, strict=False)
    ]
    return [*added, *slopes[len(more) :]]
