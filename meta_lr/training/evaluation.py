"""Metrics of a model over one pass of a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

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


def measure(
    task: Task, model: nn.Module, split: Split, batch: Callable[[Split, int], Batch]
) -> dict[str, float]:
    """Return the means of the task's metrics over one pass of `split`, in eval mode.

    Each example counts once. A perplexity is computed from the mean loss. If the task is
    `Summarising`, it computes the final metrics. The model is in train mode afterwards.

    Args:
        task: Gives the number of batches and the metrics.
        model: The model; it is in eval mode during the measurement.
        split: Name of the split, such as "val".
        batch: `(split, index) -> batch`, on the model's device.
    """
    totals: dict[str, Tensor] = {}
    examples = 0
    model.eval()
    with torch.no_grad():
        for index in range(task.num_batches(split)):
            data = batch(split, index)
            for name, value in task.metrics(model, data).items():
                weighted = value.double() * len(data[0])
                totals[name] = totals[name] + weighted if name in totals else weighted
            examples += len(data[0])
    model.train()
    means = {name: total / examples for name, total in totals.items()}
    if "perplexity" in means:  # a mean of perplexities would depend on the batch size
        means["perplexity"] = means["loss"].exp()
    if isinstance(task, Summarising):
        means = task.metrics_of_pass(means)
    return {name: float(mean) for name, mean in means.items()}


def refuse_empty(task: Task) -> None:
    """Raise a ValueError if a split that every run needs has no batch."""
    for split in ("train", "val", "test"):
        if task.num_batches(split) < 1:
            raise ValueError(f"task {task.name} has no batch of split {split}; it needs one")
