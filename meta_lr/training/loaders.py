"""Batches for experiments from DataLoaders, in your own training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

import torch
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader

from meta_lr.seeds import generator
from meta_lr.tasks.base import Batch, Split

_NO_OWN_BATCH = (
    "a method that reads the loss of this step's own batch at other weights needs a function "
    "`batch(split, step, draw)` in place of DataLoaders, which cannot give that batch again"
)


class LoaderBatches:
    """The batches of experiments, taken from the data sets of loaders, not from their iterators.

    The loop's own order of batches therefore does not change, and each batch is a pure function of
    its indices. Experiment batches are random examples. Batches of "val" can also be read in order.

    Args:
        loaders: Split ("train", "val" or "meta") -> loader; the data sets have a length.
        device: The device of the batches.
        seed: Seed of the random examples.

    Raises:
        ValueError: A split is unknown, or a data set is empty or has no length.
    """

    def __init__(
        self, loaders: Mapping[Split, DataLoader[Any]], device: torch.device, seed: int = 0
    ) -> None:
        unknown = set(loaders) - {"train", "val", "meta"}
        if unknown or "train" not in loaders:
            raise ValueError(
                f"the loaders are for {sorted(loaders)}; needed is train, and maybe val and meta"
            )
        self.loaders, self.device, self.seed = dict(loaders), device, seed
        self.sizes = {split: _size(split, loader) for split, loader in loaders.items()}

    def __call__(self, split: Split, step: int, draw: int | None) -> Batch:
        """Return the draw-th experiment batch of a step; with draw None the step-th of "val".

        Raises:
            ValueError: There is no loader for the split, or the run's own batch is requested.
        """
        if split not in self.loaders:
            raise ValueError(f"this method needs a loader of {split}, beside {[*self.loaders]}")
        if draw is None and split != "val":
            raise ValueError(_NO_OWN_BATCH)
        places = self._in_order(step) if draw is None else self._drawn(split, step, draw)
        return self._made(split, places)

    def num_batches(self, split: Split) -> int | None:
        """Return the number of batches in one pass over a split; the last one may be small."""
        loader = self.loaders.get(split)
        return None if loader is None else -(-self.sizes[split] // self._batch_size(split))

    def _in_order(self, index: int) -> list[int]:
        size, batch = self.sizes["val"], self._batch_size("val")
        return list(range(index * batch, min((index + 1) * batch, size)))

    def _drawn(self, split: Split, step: int, draw: int) -> list[int]:
        g = generator(self.seed, "experiment", split, step, draw)
        size, batch = self.sizes[split], self._batch_size(split)
        return torch.randint(size, (min(batch, size),), generator=g).tolist()

    def _made(self, split: Split, places: list[int]) -> Batch:
        loader = self.loaders[split]
        examples = [loader.dataset[place] for place in places]
        return tree_map(self._moved, loader.collate_fn(examples))

    def _moved(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, torch.Tensor) else value

    def _batch_size(self, split: Split) -> int:
        loader = self.loaders[split]
        return loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 1


def _size(split: Split, loader: DataLoader[Any]) -> int:
    """Return the number of examples; raise a ValueError if it is 0 or not known."""
    data = loader.dataset
    if not isinstance(data, Sized) or not len(data):
        raise ValueError(f"the loader of {split} needs a data set with a length above 0")
    return len(data)
