"""The interface of a task: a model, a loss, metrics, and batches."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor, nn

Batch = tuple[Tensor, ...]
"""Inputs and targets, on the CPU; the first dimension of each is the batch."""

Split = Literal["train", "meta", "val", "test"]
"""Four disjoint parts of a data set, fixed per data set and independent of the run's seed.

* `train`: the batches of the run.
* `meta`: gradients for a learned schedule or a learning rate; read in train mode.
* `val`: scores and choices; read in eval mode.
* `test`: evaluated by the loop once, at the end; no method sees it.
"""

SPLITS: tuple[Split, ...] = ("train", "meta", "val", "test")


class Task(Protocol):
    """A learning problem. All methods are pure functions of their arguments and the task's seed.

    They do not depend on the global random state or on earlier calls. A task whose data may change
    between two runs should also be `Fingerprinted`, see `meta_lr.tasks.fingerprint`.
    """

    @property
    def name(self) -> str:
        """Short name for records and reports, such as `digits` or `cifar10`."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if there are none."""
        ...

    def model(self) -> nn.Module:
        """Return a new model on the CPU, a pure function of the task's seed."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean training loss of the batch, shape ()."""
        ...

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return means over the batch, each of shape (): `loss`, and `accuracy` in [0, 1].

        The caller sets the mode (train or eval) and `no_grad`. There is no `accuracy` if
        `num_classes` is 0, or if the loss is the score, as for text. For text, `perplexity` is
        exp(`loss`).
        """
        ...

    def num_batches(self, split: Split) -> int:
        """Return the number of batches in one pass over the split.

        `train` drops its last partial batch; the others cover every example.
        """
        ...

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return one batch, a pure function of the task's seed and the arguments.

        Args:
            split: The part of the data.
            index: Without `draw`, the number of the batch, from 0. For `train` and `meta` it has no
                limit (each epoch has a new permutation); for `val` and `test` (fixed order) it is
                below `num_batches`. With `draw`, the step of the run with the experiment.
            draw: Number of an experiment's batch, from 0: a random sample without replacement.

        Raises:
            ValueError: The split is unknown or empty, or the index is out of range.
        """
        ...
