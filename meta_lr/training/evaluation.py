"""Metrics of a model over one pass of a split."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from meta_lr.tasks.base import Batch, Split, Task


def measure(
    task: Task, model: nn.Module, split: Split, batch: Callable[[Split, int], Batch]
) -> dict[str, float]:
    """Return the means of the task's metrics over one pass of `split`, in eval mode.

    Each example counts once, and a perplexity is that of the mean loss. The model is left in train
    mode.

    Args:
        task: Says how many batches there are, and what is measured.
        model: In eval mode while it is measured.
        split: Such as "val".
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
    if "perplexity" in means:  # the mean of perplexities depends on how a pass is cut into batches
        means["perplexity"] = means["loss"].exp()
    return {name: float(mean) for name, mean in means.items()}


def refuse_empty(task: Task) -> None:
    """Raise a ValueError if a split that every run needs has no batch."""
    for split in ("train", "val", "test"):
        if task.num_batches(split) < 1:
            raise ValueError(f"task {task.name} has no batch of split {split}; it needs one")
