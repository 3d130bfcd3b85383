"""Sharded parameters (FSDP2, tensor parallelism): the local part, and sums over all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

Vector = Sequence[Tensor]


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this rank holds; the whole tensor if it is not sharded."""
    whole: Any = tensor
    return whole.to_local() if hasattr(tensor, "to_local") else tensor


def lengths(tensors: Vector) -> list[int]:
    """Return, for each tensor, the number of elements that this rank holds."""
    return [local(tensor).numel() for tensor in tensors]


def refuse_mixed(tensors: Vector) -> None:
    """Raise a ValueError if not all tensors are distributed over the ranks in the same way."""
    kinds = {_layout(tensor) for tensor in tensors}
    if len(kinds) > 1:
        names = " and ".join(sorted({"plain" if kind is None else "sharded" for kind in kinds}))
        raise ValueError(
            f"the schedule measures whole weights, and the optimizer has {names} parameters that "
            "are distributed in different ways; shard all weights on one mesh alike, as "
            "fully_shard(model) does"
        )


def over_ranks(totals: Tensor, tensors: Vector) -> Tensor:
    """Add sums over local parts up to sums over whole tensors, in place; collective if sharded."""
    layout = _layout(tensors[0])
    if layout is not None:
        mesh, placements = layout
        for dim, placement in enumerate(placements):
            if not placement.is_replicate():
                dist.all_reduce(totals, group=mesh.get_group(dim))
    return totals


def _layout(tensor: Any) -> tuple[Any, tuple[Any, ...]] | None:
    return (tensor.device_mesh, tensor.placements) if hasattr(tensor, "placements") else None
