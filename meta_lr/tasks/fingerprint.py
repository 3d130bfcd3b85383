"""What tells a task's data from other data: a checksum of their content, wherever the files lie."""

from __future__ import annotations

import zlib
from typing import Protocol, runtime_checkable

from torch import Tensor

from meta_lr.tasks.base import Task


@runtime_checkable
class Fingerprinted(Protocol):
    """What a task may offer besides: a text that changes when its data change."""

    @property
    def data_fingerprint(self) -> str | None:
        """Short text for messages, such as "60,000 images (checksum 1a2b3c4d)"; None if unknown.

        It depends on what the data are alone, not on their place or on the time of their files. A
        folder that holds a run on data of another fingerprint is refused.
        """
        ...


def fingerprint_of(task: Task) -> str | None:
    """Return what a task says of its data; None if it says nothing."""
    return task.data_fingerprint if isinstance(task, Fingerprinted) else None


def checksum(what: str, *tensors: Tensor) -> str:
    """Return `what` with a checksum of the tensors' values, shapes and types.

    Four gigabytes take about a second.

    >>> import torch
    >>> checksum("2 numbers", torch.tensor([1, 2]))
    '2 numbers (checksum c715194c)'
    """
    value = 0
    for tensor in tensors:
        value = zlib.crc32(f"{tensor.dtype}{tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.detach().cpu().contiguous().numpy().data, value)
    return f"{what} (checksum {value:08x})"
