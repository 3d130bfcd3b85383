"""The parts of a training step, and the processes that compute them.

A step is the mean of the gradients of M equal parts of its batch. It does not matter which process
computes a part: one process computes all of them one after the other (gradient accumulation), and W
processes compute M / W each (data parallelism). The result is the same up to the order of the sums.

Buffers, such as the statistics of BatchNorm, are the same at the start of each part of a step, and
after the step they are the mean over the parts.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from meta_lr.processes import means_over_processes, rank


@dataclass(frozen=True)
class Parts:
    """The number of parts of a step, and of the processes that share them.

    Args:
        count: M; it divides the batch size, and the number of processes divides it.
        processes: W; 1 is for a run of this process alone, also inside a group of processes.

    Raises:
        ValueError: The processes cannot share the parts equally.
    """

    count: int = 1
    processes: int = 1

    def __post_init__(self) -> None:
        if type(self.count) is not int or self.count < 1:
            raise ValueError(f"parts={self.count}; a whole number is needed, at least 1")
        if self.count % self.processes:
            divisors = [str(n) for n in range(1, self.count + 1) if self.count % n == 0]
            raise ValueError(
                f"parts={self.count} cannot be shared equally by {self.processes} processes; pass "
                f"parts={self.processes} or a multiple, or start {' or '.join(divisors)} processes"
            )

    @property
    def mine(self) -> range:
        """The numbers of the parts that this process computes."""
        share = self.count // self.processes
        first = rank() * share if self.processes > 1 else 0
        return range(first, first + share)

    def means(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the means of tensors of one type over the processes of the run."""
        return tensors if self.processes == 1 else means_over_processes(tensors)

    def parallel(self, module: nn.Module) -> nn.Module:
        """Return the module with gradients that are averaged over the processes of the run.

        Buffers are left alone: `each` averages them.
        """
        if self.processes == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        named = inspect.signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in named else "broadcast_buffers"
        no_sync: dict[str, Any] = {buffers: False}
        return DistributedDataParallel(module, **no_sync)

    def names(self, part: int) -> tuple[str | int, ...]:
        """Return the names that tell the random numbers of this part from those of the others."""
        return () if self.count == 1 else ("part", part)

    def each(self, buffers: Sequence[Tensor]) -> Iterator[int]:
        """Yield the number of each part of this process.

        The buffers have their present values at the start of each part, and are the mean over the
        parts of all processes at the end. Buffers of whole numbers keep their last values.
        """
        if self.count == 1 or not buffers:
            yield from self.mine
            return
        before = [buffer.detach().clone() for buffer in buffers]
        moves = [torch.zeros_like(buffer) for buffer in buffers]
        for part in self.mine:
            for buffer, start in zip(buffers, before, strict=True):
                buffer.data.copy_(start)  # `data`: a graph may hold the buffer of an earlier part
            yield part
            for move, buffer, start in zip(moves, buffers, before, strict=True):
                move += torch.where(buffer == start, 0, buffer - start)  # a mask has infinities
        averaged = [n for n, buffer in enumerate(buffers) if buffer.is_floating_point()]
        means = self.means([moves[n] / len(self.mine) for n in averaged])
        for n, mean in zip(averaged, means, strict=True):
            buffers[n].data.copy_(before[n] + mean)


def averaged_at(module: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Return a context in which gradients are averaged over the processes only if `last`."""
    if last or not isinstance(module, DistributedDataParallel):
        return nullcontext()
    return module.no_sync()
