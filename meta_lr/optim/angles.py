"""The turning angle of a path in parameter space: the angle between two successive changes.

The code keeps and reuses three copies of the parameters. It never waits for the device: an angle is
a tensor, and the caller reads it when it needs the value.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Vector = tuple[Tensor, ...]
Trail = tuple[Vector, ...]  # the mean of a block so far, the mean before it, the last direction


def buffers(params: Sequence[Tensor], count: int) -> tuple[Vector, ...]:
    """Return `count` zero vectors on the devices of the parameters, in float32 or better."""
    types = [torch.promote_types(p.dtype, torch.float32) for p in params]
    return tuple(
        tuple(torch.zeros_like(p, dtype=t) for p, t in zip(params, types, strict=True))
        for _ in range(count)
    )


def are_of(held: tuple[Vector, ...], params: Sequence[Tensor]) -> bool:
    """Return whether stored vectors have as many tensors as these parameters."""
    return bool(held) and len(held[0]) == len(params)


def beside(held: tuple[Vector, ...], params: Sequence[Tensor]) -> tuple[Vector, ...]:
    """Return stored vectors on the devices of the parameters; a loaded state is on the CPU."""
    if held[0][0].device == params[0].device:
        return held
    return tuple(tuple(h.to(p.device) for h, p in zip(v, params, strict=True)) for v in held)


@torch.no_grad()
def copy_to(held: Vector, params: Sequence[Tensor]) -> None:
    """Overwrite a stored vector with the parameters."""
    for h, p in zip(held, params, strict=True):  # DTensor does not support torch._foreach_copy_
        h.copy_(p)


@torch.no_grad()
def turn(point: Sequence[Tensor], last: Vector, way: Vector) -> Tensor:
    """Return the angle in degrees, (), between the direction `way` and the change to `point`.

    The change is from `last` to `point`. Its direction overwrites `last`; it is the next `way`. The
    old `way` is overwritten too. A zero change has no direction; the angle is then 90.

    As in `vectors.angle`, atan2 of the diagonals of the rhombus of unit vectors is accurate near 0
    and 180 degrees. Both directions point backwards, which does not change the angle.
    """
    torch._foreach_sub_(last, list(point))
    torch._foreach_div_(last, _norm(last).clamp(min=torch.finfo(torch.float32).tiny))
    torch._foreach_sub_(way, last)
    apart = _norm(way)
    torch._foreach_add_(way, last, alpha=2)
    along = _norm(way)
    angle = torch.rad2deg(2 * torch.atan2(apart, along))
    return torch.where(apart + along == 0, 90.0, angle)


def has_angle(steps: int, k: int) -> bool:
    """Return whether a block of `k` points is full after `steps` points, with two blocks before."""
    return steps % k == 0 and steps >= 3 * k


@torch.no_grad()
def follow(
    trail: Trail, params: Sequence[Tensor], steps: int, k: int
) -> tuple[Trail, Tensor | None]:
    """Add a path's point number `steps`, counted from 1; return the trail, and an angle if any.

    When a block is full, the angle, in degrees, (), is that between the last two changes of the
    mean over blocks of `k` points.

    Args:
        trail: The result for the point before; () at the first point.
        params: The point; it is read, but not stored.
        steps: Number of points so far, including this one.
        k: Points per block.
    """
    mean, last, way = beside(trail, params) if trail else buffers(params, 3)
    before = (steps - 1) % k
    if before:  # running mean: its rounding error does not grow with k
        like = [p.to(m.dtype) for p, m in zip(params, mean, strict=True)]
        torch._foreach_lerp_(mean, like, 1 / (before + 1))
    else:
        copy_to(mean, params)
    if steps % k:
        return (mean, last, way), None
    angle = turn(mean, last, way)
    return (way, mean, last), angle if has_angle(steps, k) else None


def _norm(vector: Vector) -> Tensor:
    """Return the norm, in float64 if the device supports it."""
    norms = torch.stack(torch._foreach_norm(vector))
    return torch.linalg.vector_norm(norms if norms.device.type == "mps" else norms.double())
