"""Metrics of a model over one pass of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from meta_lr.processes import everywhere, num_ranks, rank
from meta_lr.tasks.base import Batch, Split, Task


@runtime_checkable
class Summarising(Protocol):
    """Optional method of a task: metrics that are computed from means over examples."""

    def metrics_of_pass(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the metrics, each of shape (), from means over all examples of a pass.

        Args:
            means: Means of the values that the task's `metrics` returns, of any shape.
        """
        ...


class _Measured(NamedTuple):
    """The metrics of one batch."""

    examples: int
    metrics: dict[str, Tensor]


def measure(
    task: Task,
    model: nn.Module,
    split: Split,
    batches: Callable[[Split, range], Iterable[Batch]],
) -> dict[str, float]:
    """Return the means of the task's metrics over one pass of `split`, in eval mode.

    Each example counts once. The processes of a run share the batches, and all of them get the same
    result, whatever their number. A perplexity is computed from the mean loss. If the task is
    `Summarising`, it computes the final metrics. The model is in train mode afterwards.

    Args:
        task: Gives the number of batches and the metrics.
        model: The model; it is in eval mode during the measurement.
        split: Name of the split, such as "val".
        batches: `(split, indices) -> batches`, in order, on the model's device.
    """
    measured: list[_Measured] = []
    model.eval()
    with torch.no_grad():
        for data in batches(split, range(rank(), task.num_batches(split), num_ranks())):
            measured.append(_Measured(len(data[0]), task.metrics(model, data)))
    model.train()
    means = _means(_of_all_processes(measured))
    if "perplexity" in means:  # a mean of perplexities would depend on the batch size
        means["perplexity"] = means["loss"].exp()
    if isinstance(task, Summarising):
        means = task.metrics_of_pass(means)
    return {name: float(mean) for name, mean in means.items()}


def _of_all_processes(measured: list[_Measured]) -> list[_Measured]:
    """Return what all processes measured, in the order of the batches."""
    if num_ranks() == 1:
        return measured
    own = [m._replace(metrics={k: v.cpu() for k, v in m.metrics.items()}) for m in measured]
    rounds = zip_longest(*everywhere(own))
    return [found for one_round in rounds for found in one_round if found is not None]


def _means(measured: Sequence[_Measured]) -> dict[str, Tensor]:
    """Return the means over all examples, in float64; the batches are added in order."""
    totals: dict[str, Tensor] = {}
    for examples, metrics in measured:
        for name, value in metrics.items():
            weighted = value.double() * examples
            totals[name] = totals[name] + weighted if name in totals else weighted
    count = sum(found.examples for found in measured)
    return {name: total / count for name, total in totals.items()}


def refuse_empty(task: Task) -> None:
    """Raise a ValueError if a split that every run needs has no batch."""
    for split in ("train", "val", "test"):
        if task.num_batches(split) < 1:
            raise ValueError(f"task {task.name} has no batch of split {split}; it needs one")
