"""A part of a batch: one of several equal slices, in the order of the examples."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from meta_lr.tasks.base import Batch, Split, Task


@runtime_checkable
class Parted(Protocol):
    """Optional method of a task that reads its examples from disk: it reads one part alone."""

    def part(self, split: Split, index: int, part: int, count: int) -> Batch:
        """Return slice number `part` of `count` equal slices of `batch(split, index)`."""
        ...


def part_of_batch(task: Task, split: Split, index: int, part: int, count: int) -> Batch:
    """Return slice number `part` of `count` equal slices of the task's batch.

    Raises:
        ValueError: The batch cannot be divided into `count` equal slices.
    """
    if count == 1:
        return task.batch(split, index)
    if isinstance(task, Parted):
        return task.part(split, index, part, count)
    return sliced(task.batch(split, index), part, count)


def sliced(batch: Batch, part: int, count: int) -> Batch:
    """Return slice number `part` of `count` equal slices of a batch.

    Raises:
        ValueError: The batch cannot be divided into `count` equal slices.
    """
    if count == 1:
        return batch
    rows = rows_of_part(len(batch[0]), part, count)
    return tuple(tensor[rows] for tensor in batch)


def rows_of_part(examples: int, part: int, count: int) -> slice:
    """Return the rows of slice number `part` of `count` equal slices of a batch of `examples`.

    Raises:
        ValueError: The batch cannot be divided into `count` equal slices.
    """
    size, rest = divmod(examples, count)
    if rest or not size:
        raise ValueError(
            f"a batch of {examples} examples has no {count} equal parts; "
            "choose parts= that divides the batch size"
        )
    return slice(part * size, (part + 1) * size)
