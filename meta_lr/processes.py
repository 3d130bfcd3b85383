"""What several processes of one run settle together; alone, a process settles it itself.

Each function but `rank` and `num_ranks` is a collective call: all processes of the group make it,
in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class ElsewhereError(RuntimeError):
    """The first process could not do what all of them wait for."""


def rank() -> int:
    """Return the number of this process in its group; 0 without one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def num_ranks() -> int:
    """Return the size of the default process group; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def add_over_processes(tensor: Tensor) -> None:
    """Replace a tensor by its sum over all processes."""
    if num_ranks() > 1:
        dist.all_reduce(tensor)


def any_of(*flags: bool) -> tuple[bool, ...]:
    """Return for each flag whether it is set in any process."""
    if num_ranks() == 1:
        return flags
    set_anywhere = torch.tensor([float(flag) for flag in flags])
    add_over_processes(set_anywhere)
    return tuple(count > 0 for count in set_anywhere.tolist())


def gathered(value: T) -> list[T]:
    """Return every process's value, in their order; in all processes but the first, nothing."""
    if num_ranks() == 1:
        return [value]
    values: list[T] | None = [value] * num_ranks() if rank() == 0 else None
    dist.gather_object(value, values, dst=0)
    return values or []


def from_first(make: Callable[[], T]) -> T:
    """Return, in all processes, what the first one makes.

    Raises:
        ElsewhereError: In the others, if `make` raised in the first, which raises that itself.
    """
    if num_ranks() == 1:
        return make()
    found: list[Any] = [None, None]  # what was made, or what went wrong
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
