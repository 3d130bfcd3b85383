"""Collective operations of the processes of one run; they also work with a single process.

Each function except `rank` and `num_ranks` is a collective call: all processes of the group must
call it, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class ElsewhereError(RuntimeError):
    """The first process failed in an operation that all processes wait for."""


def rank() -> int:
    """Return the rank of this process in the default process group; 0 without a group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def num_ranks() -> int:
    """Return the size of the default process group; 1 without a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def add_over_processes(tensor: Tensor) -> None:
    """Replace a tensor with its sum over all processes, in place."""
    if num_ranks() > 1:
        dist.all_reduce(tensor)


def mean_over_processes(tensor: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, without a graph."""
    if num_ranks() == 1:
        return tensor
    total = tensor.detach().clone()
    add_over_processes(total)
    return total / num_ranks()


def means_over_processes(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the means of tensors of one type over all processes, in one operation."""
    if num_ranks() == 1 or not tensors:
        return tensors
    flat = mean_over_processes(torch.cat([tensor.reshape(-1) for tensor in tensors]))
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def numbers(value: float) -> list[float]:
    """Return the number that each process gives, in rank order."""
    if num_ranks() == 1:
        return [value]
    given = torch.zeros(num_ranks(), dtype=torch.float64)
    given[rank()] = value
    add_over_processes(given)
    return given.tolist()


def any_of(*flags: bool) -> tuple[bool, ...]:
    """Return, for each flag, whether it is set in any process."""
    if num_ranks() == 1:
        return flags
    set_anywhere = torch.tensor([float(flag) for flag in flags])
    add_over_processes(set_anywhere)
    return tuple(count > 0 for count in set_anywhere.tolist())


def gathered(value: T) -> list[T]:
    """Return the values of all processes in rank order; an empty list except on rank 0."""
    if num_ranks() == 1:
        return [value]
    values: list[T] | None = [value] * num_ranks() if rank() == 0 else None
    dist.gather_object(value, values, dst=0)
    return values or []


def everywhere(value: T) -> list[T]:
    """Return the values of all processes in rank order, in every process."""
    if num_ranks() == 1:
        return [value]
    values = [value] * num_ranks()
    dist.all_gather_object(values, value)
    return values


def from_first(make: Callable[[], T]) -> T:
    """Call `make` in the first process, and return its result in all processes.

    Raises:
        ElsewhereError: In the other processes, if `make` raised in the first one. The first
            process raises the original error.
    """
    if num_ranks() == 1:
        return make()
    found: list[Any] = [None, None]  # the result, or the error message
    try:
        if rank() == 0:
            found[0] = make()
    except BaseException as error:
        found[1] = f"{type(error).__name__}: {error}"
        raise
    finally:
        dist.broadcast_object_list(found, src=0)
    if found[1] is not None:
        raise ElsewhereError(f"process 0 failed: {found[1]}")
    return found[0]
