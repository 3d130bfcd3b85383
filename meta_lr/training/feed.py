"""The batches of a run on its device, read ahead by worker processes.

A batch is a pure function of its indices, so workers change nothing but the time: the run is the
same with any number of them, and it resumes at any step with another number.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from itertools import product
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from meta_lr.tasks.base import Batch, Split, Task
from meta_lr.tasks.parts import part_of_batch

Place = tuple[Split, int, int, int]  # split, index of the batch, number of the part, of how many


class Feed:
    """Batches of a task, on a device.

    Args:
        task: Gives the batches; each worker has a copy of it.
        device: The device of the batches; those for CUDA go through pinned memory.
        workers: Number of processes that read ahead; 0 reads each batch when it is needed.

    Attributes:
        waited: Seconds that the last call of `part` waited for its batch.
    """

    def __init__(self, task: Task, device: torch.device, workers: int = 0) -> None:
        self.task, self.device, self.workers = task, device, workers
        self.waited = 0.0
        self._ahead = self._read(())
        self._places: Iterator[Place] = iter(())
        self._next: Place | None = None  # what `_ahead` gives next

    def __enter__(self) -> Feed:
        """Return the feed; its workers end at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        self._ahead.close()

    def plan(self, steps: range, parts: range, count: int) -> None:
        """Let workers read parts of the training batches of these steps, in order."""
        if self.workers:
            self._ahead = self._read(_places(steps, parts, count))
            self._places = _places(steps, parts, count)
            self._next = next(self._places, None)

    def part(self, index: int, part: int, count: int) -> Batch:
        """Return a part of a training batch; one that is not the next of the plan is read now."""
        began, place = time.perf_counter(), ("train", index, part, count)
        if place == self._next:
            batch, self._next = next(self._ahead), next(self._places, None)
        else:
            batch = self.moved(part_of_batch(self.task, "train", index, part, count))
        self.waited = time.perf_counter() - began
        return batch

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return one batch, read now."""
        return self.moved(self.task.batch(split, index, draw))

    def batches(self, split: Split, indices: range) -> Iterator[Batch]:
        """Yield the batches at these indices, in order."""
        if self.workers:
            return self._read((split, index, 0, 1) for index in indices)
        return (self.batch(split, index) for index in indices)

    def moved(self, batch: Batch) -> Batch:
        """Return the batch on the device."""
        if self.device.type == "cpu":
            return batch
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in batch)

    def _read(self, places: Iterable[Place]) -> Generator[Batch, None, None]:
        """Yield what workers read at these places, in order.

        Raises:
            OSError: A worker was lost.
        """
        loader = DataLoader(
            _Places(self.task),
            batch_size=None,
            sampler=places,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_run,
            generator=torch.Generator(),  # the loader draws from it, not from the global one
        )
        batches = _begun(loader)
        while (batch := self._received(batches)) is not None:
            if isinstance(batch, Exception):
                raise batch
            yield self.moved(batch)

    def _received(self, batches: Iterator[Any]) -> Any:
        """Return what a worker sends next; None at the end."""
        try:
            return next(batches, None)
        except (RuntimeError, ConnectionError, EOFError) as error:
            raise OSError(
                "a process that reads data was lost, perhaps because the memory was full; choose "
                f"fewer than workers={self.workers}"
            ) from error


class _Places(Dataset["Batch | Exception"]):
    """The batches of a task by place; an error is returned, so that the run can raise it."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __getitem__(self, place: Place) -> Batch | Exception:
        try:
            return part_of_batch(self.task, *place)
        except Exception as error:
            return error


def _places(steps: range, parts: range, count: int) -> Iterator[Place]:
    return (("train", step, part, count) for step, part in product(steps, parts))


def _begun(loader: DataLoader[Any]) -> Iterator[Any]:
    """Start the workers.

    torch's signal handler, which raises wherever the run happens to be if a worker is lost, is
    removed: the loader itself also notices within seconds, when the next batch is needed.
    """
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    signal.signal(signal.SIGCHLD, before)
    return batches


def _leave_signals_to_the_run(_worker: int) -> None:
    """Let a worker end with its run: Ctrl-C, which every process gets, must not end it before."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
