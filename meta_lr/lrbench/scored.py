"""A task with LRBench's metrics: its evaluations and records have more metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from meta_lr.lrbench import metrics
from meta_lr.tasks.base import Batch, Split, Task
from meta_lr.tasks.fingerprint import fingerprint_of

_PART = "lrbench."


@dataclass(frozen=True, eq=False)
class Scored:
    """Another task, whose evaluations also have LRBench's metrics 1 to 5.

    The loop evaluates on `val` as usual, and once on `test` at the run's end. Each of these rows of
    the record has `top5`, `confidence`, `confidence_spread` and `class_spread` in addition to
    `loss` and `accuracy`. The training is bit-identical to that of the inner task. The logits come
    from the one forward pass of the inner task's metrics. A task without accuracy, such as text, is
    evaluated as usual.

    Args:
        inner: The task. If it has an accuracy, its `metrics` calls the model once, the model
            returns logits (batch, classes), and a batch is (inputs, labels).
    """

    inner: Task

    @property
    def name(self) -> str:
        """The inner task's name, because the problem is the same."""
        return self.inner.name

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if there are none."""
        return self.inner.num_classes

    @property
    def data_fingerprint(self) -> str | None:
        """The inner task's fingerprint; None if it has none."""
        return fingerprint_of(self.inner)

    def model(self) -> nn.Module:
        """Return a new model of the inner task."""
        return self.inner.model()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the inner task's mean training loss of the batch, shape ()."""
        return self.inner.loss(model, batch)

    def num_batches(self, split: Split) -> int:
        """Return the number of batches in one pass over the split."""
        return self.inner.num_batches(split)

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return the inner task's batch."""
        return self.inner.batch(split, index, draw)

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the inner task's metrics, and means over examples for `metrics_of_pass`."""
        heard: list[Tensor] = []

        def hear(module: nn.Module, inputs: object, output: Tensor) -> None:
            heard.append(output)

        hook = model.register_forward_hook(hear)
        try:
            found = self.inner.metrics(model, batch)
        finally:
            hook.remove()
        if "accuracy" not in found:
            return found
        if len(heard) != 1:
            raise ValueError(
                f"{self.name} calls its model {len(heard)} times per batch to measure it; "
                "LRBench's metrics need the logits of one call"
            )
        parts = metrics.means(heard[0], batch[1])
        return found | {_PART + name: mean for name, mean in parts.items()}

    def metrics_of_pass(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the metrics of a pass, from the means over its examples."""
        own = {name: mean for name, mean in means.items() if not name.startswith(_PART)}
        parts = {k.removeprefix(_PART): mean for k, mean in means.items() if k not in own}
        return {**own, **metrics.from_means(parts), **own} if parts else own
