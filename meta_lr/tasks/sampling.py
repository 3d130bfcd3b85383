"""The examples of a batch, as a pure function of (seed, split, index, draw)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from meta_lr import seeds
from meta_lr.tasks.base import SPLITS, Split
from meta_lr.tasks.permutation import KeyedPermutation


def num_batches(split: Split, size: int, batch_size: int) -> int:
    """Return the number of batches in a pass over `size` examples; `train` drops a partial one."""
    return size // batch_size if split == "train" else -(-size // batch_size)


def check_batch_size(name: str, batch_size: int, size: int, what: str = "examples") -> None:
    """Raise a ValueError if the `size` elements of `train` do not fill one batch."""
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"{name} got batch_size={batch_size}; it must be from 1 to the number of train {what}, "
            f"{size}"
        )


def members(splits: Mapping[Split, Tensor], split: Split) -> Tensor:
    """Return the elements of a split, or raise a ValueError if there is no split of that name."""
    if split not in splits:
        raise ValueError(f"{split!r} is no split; choose one of {', '.join(SPLITS)}")
    return splits[split]


def chosen(
    name: str,
    splits: Mapping[Split, Tensor],
    split: Split,
    *,
    batch_size: int,
    seed: int,
    index: int,
    draw: int | None,
    keyed: bool = False,
) -> Tensor:
    """Return the numbers of the examples of a batch of the task `name`; see `positions`.

    Raises:
        ValueError: The split is unknown or empty, or the index is out of range.
    """
    found = members(splits, split)
    if not len(found):
        raise ValueError(f"{name} has no examples in split {split!r}; raise {split}_size")
    return found[
        positions(
            split,
            len(found),
            batch_size=batch_size,
            seed=seed,
            index=index,
            draw=draw,
            keyed=keyed,
        )
    ]


def positions(
    split: Split,
    size: int,
    *,
    batch_size: int,
    seed: int,
    index: int,
    draw: int | None,
    keyed: bool = False,
) -> Tensor:
    """Return the batch's positions within the split, int64 (batch,), as defined in `Task.batch`.

    If a split is smaller than a batch, the batch has all its examples. In `meta`, the last batch of
    a pass is filled with examples of the batch before it, so that all batches have the same size.
    Orders are torch's random permutations, or, if `keyed`, permutations that are computed only at
    the batch, for splits of millions of examples.
    """
    if index < 0 or (draw is not None and draw < 0):
        raise ValueError(f"batch of split {split!r} got index {index} and draw {draw}; from 0 on")
    count = min(batch_size, size)
    drawn, shuffled = (KeyedPermutation,) * 2 if keyed else (_permutation, _epoch_order)
    if draw is not None:
        return drawn(size, seeds.derive(seed, "draw", split, index, draw))[:count]
    per_pass = num_batches(split, size, count)
    if split in ("train", "meta"):
        epoch, index = divmod(index, per_pass)
        order = shuffled(size, seeds.derive(seed, "order", split, epoch))
        start = min(index * count, size - count)
        return order[start : start + count]
    if index >= per_pass:
        raise ValueError(f"split {split!r} has {per_pass} batches; there is no batch {index}")
    return torch.arange(index * count, min((index + 1) * count, size))


def _permutation(size: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


_epoch_order = lru_cache(maxsize=4)(_permutation)
