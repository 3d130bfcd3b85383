"""The data of the held-out families: in memory, without a download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meta_lr.seeds import derive, generator
from meta_lr.tasks.base import Batch, Split

CONTEXT, SYMBOLS = 16, 20  # of the text: symbols in a window, and the number of symbols


@dataclass(frozen=True)
class ArrayTask:
    """A `Task` on arrays in memory; "meta" and "test" are empty.

    Args:
        name: Short name.
        inputs: (examples, ...); the last fifth is `val`.
        targets: (examples, ...).
        network: Makes the model.
        measure: Function (outputs, targets) -> the mean loss ().
        batch_size: Examples per batch.
        seed: Seed of the weights and the batches.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    network: Callable[[], nn.Module]
    measure: Callable[[Tensor, Tensor], Tensor]
    batch_size: int
    seed: int
    num_classes: int = 0

    def model(self) -> nn.Module:
        """Return a fresh network."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(self.seed, "init"))
            return self.network()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss ()."""
        return self.measure(model(batch[0]), batch[1])

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss."""
        return {"loss": self.loss(model, batch)}

    def num_batches(self, split: Split) -> int:
        """Return the number of batches in one pass; those of "val" have up to 200 examples."""
        size = self._first_val if split == "train" else -(len(self.inputs) - self._first_val)
        return size // self.batch_size if split == "train" else -(size // 200)

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return random training examples, or the index-th part of "val"."""
        if split == "val":
            chosen = torch.arange(self._first_val, len(self.inputs))[
                200 * index : 200 * index + 200
            ]
        elif split == "train":
            drawn = generator(self.seed, "batch", index, -1 if draw is None else draw)
            chosen = torch.randint(self._first_val, (self.batch_size,), generator=drawn)
        else:
            raise ValueError(f"{self.name} has no split {split!r}")
        return self.inputs[chosen], self.targets[chosen]

    @property
    def _first_val(self) -> int:
        return len(self.inputs) * 4 // 5


def of_symbols(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the mean cross-entropy () of logits (batch, context, symbols)."""
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten())


@lru_cache
def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits, images (1797, 1, 8, 8) of unit variance, and their classes."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    images = torch.as_tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8)
    order = torch.randperm(len(images), generator=generator(0, "digits"))
    return ((images - images.mean()) / images.std())[order], torch.as_tensor(classes)[order]


@lru_cache
def tumours() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's breast cancer table: 569 rows of 30 numbers, and two classes."""
    from sklearn.datasets import load_breast_cancer

    table, classes = load_breast_cancer(return_X_y=True)
    rows = torch.as_tensor(table, dtype=torch.float32)
    order = torch.randperm(len(rows), generator=generator(0, "tumours"))
    return ((rows - rows.mean(0)) / rows.std(0))[order], torch.as_tensor(classes)[order]


@lru_cache(maxsize=4)
def text(number: int) -> tuple[Tensor, Tensor]:
    """Return windows (examples, context) of a text, and the same one symbol later.

    Each symbol depends on the two before it, according to a random table for this number.
    """
    drawn = generator(0, "text", number)
    table = torch.randn(SYMBOLS, SYMBOLS, SYMBOLS, generator=drawn).mul(2.5).softmax(-1).cumsum(-1)
    chances = torch.rand(30_000, generator=drawn).tolist()
    ids, cumulative = [0, 0], table.tolist()
    for chance in chances:
        row = cumulative[ids[-2]][ids[-1]]
        ids.append(sum(chance > bound for bound in row[:-1]))
    windows = torch.tensor(ids).unfold(0, CONTEXT + 1, 8)
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


@lru_cache(maxsize=4)
def taught(number: int) -> tuple[Tensor, Tensor]:
    """Return 2,000 points in 16 dimensions and a random network's noisy outputs on them."""
    drawn = generator(0, "taught", number)
    points = torch.randn(2000, 16, generator=drawn)
    first, second = torch.randn(16, 12, generator=drawn) / 4, torch.randn(12, 2, generator=drawn)
    made = torch.relu(3 * points @ first) @ second / 4
    return points, made + 0.1 * torch.randn(made.shape, generator=drawn)
