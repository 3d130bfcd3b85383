"""Vector geometry of lists of tensors: each list is treated as one long vector."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Vector = Sequence[Tensor]
Tensors = tuple[Tensor, ...]


def dot(a: Vector, b: Vector) -> Tensor:
    """Return the inner product of `a` and `b`, a tensor of shape ()."""
    products = torch._foreach_mul(list(a), list(b))
    return torch.stack([p.sum() for p in products]).sum()


def norm(a: Vector) -> Tensor:
    """Return the Euclidean norm of `a`, a tensor of shape ()."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(a))))


def angle(a: Vector, b: Vector) -> float:
    """Return the angle between `a` and `b` in radians, in [0, pi].

    The formula is atan2 of the two diagonals of the rhombus of unit vectors. It is accurate at
    small angles and near pi, where the arc cosine is not (Kahan 2006).

    Raises:
        ValueError: One of the vectors is zero, so there is no angle.
    """
    norms = float(norm(a)), float(norm(b))
    if 0.0 in norms:
        raise ValueError("the angle to a zero vector is not defined")
    unit_a = torch._foreach_div(list(a), norms[0])
    unit_b = torch._foreach_div(list(b), norms[1])
    apart = float(norm(torch._foreach_sub(unit_a, unit_b)))
    along = float(norm(torch._foreach_add(unit_a, unit_b)))
    return 2.0 * math.atan2(apart, along)


def axpy(alpha: float | Tensor, x: Vector, y: Vector) -> list[Tensor]:
    """Return `alpha * x + y`; differentiable in all three."""
    if isinstance(alpha, Tensor) or torch.is_grad_enabled():
        return [alpha * a + b for a, b in zip(x, y, strict=True)]
    return list(torch._foreach_add(list(y), list(x), alpha=alpha))


def hvp(loss: Tensor, params: Vector, vector: Vector) -> list[Tensor]:
    """Return the Hessian of `loss` at `params` times `vector` (Pearlmutter 1994)."""
    grads = torch.autograd.grad(loss, list(params), create_graph=True)
    return list(torch.autograd.grad(grads, list(params), grad_outputs=list(vector)))
