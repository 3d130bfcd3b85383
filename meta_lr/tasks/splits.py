"""Class-balanced parts cut from a training set, the same for every run."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from meta_lr import seeds
from meta_lr.tasks.base import Split


def balanced_cut(labels: Tensor, sizes: Mapping[Split, int]) -> dict[Split, Tensor]:
    """Cut parts of the given sizes from the examples; the rest is `train`.

    Each part holds the same number of examples of each class, or one more of the first classes. The
    selection depends on the labels and on the sizes of the parts before it, not on a run's seed.

    Args:
        labels: Class of each example, (examples,).
        sizes: Number of examples of each part, in the order of cutting.

    Returns:
        Ascending indices of each part and of `train`.

    Raises:
        ValueError: A size is negative, or a class would have no examples left for `train`.
    """
    return _cut(labels, sizes, "cut")


def with_given_test(
    labels: Tensor, num_train: int, *, val_size: int, meta_size: int, meta_overlap: bool = False
) -> dict[Split, Tensor]:
    """Cut `val` and `meta` from the first `num_train` examples; the others are `test`.

    `meta_overlap` redraws `meta` as `redrawn` does.
    """
    parts = balanced_cut(labels[:num_train], {"val": val_size, "meta": meta_size})
    parts = redrawn(labels, parts) if meta_overlap else parts
    return {**parts, "test": torch.arange(num_train, len(labels))}


def redrawn(labels: Tensor, parts: Mapping[Split, Tensor]) -> dict[Split, Tensor]:
    """Draw a new `meta` from the union of `meta` and `train`; `train` does not change.

    Nearly all examples of `meta` are then training examples. The published code of MLR-SNet (Shu et
    al. 2020) does the same: it takes the two from two independent shuffles of one set.
    """
    together = torch.cat((parts["train"], parts["meta"])).sort().values
    drawn = _cut(labels[together], {"meta": len(parts["meta"])}, "redraw")
    return {**parts, "meta": together[drawn["meta"]]}


def _cut(labels: Tensor, sizes: Mapping[Split, int], stream: str) -> dict[Split, Tensor]:
    classes, counts = labels.unique(return_counts=True)
    by_class = labels.argsort(stable=True).split(counts.tolist())
    parts: dict[Split, list[Tensor]] = {name: [] for name in (*sizes, "train")}
    for rank, (label, members) in enumerate(zip(classes.tolist(), by_class, strict=True)):
        shares = [_share(name, size, rank, len(classes)) for name, size in sizes.items()]
        left = len(members) - sum(shares)
        if left < 1:
            wanted = " and ".join(f"{name}_size={size}" for name, size in sizes.items())
            raise ValueError(
                f"class {label} has {len(members)} examples, but with {len(classes)} classes "
                f"{wanted} take {sum(shares)} of it, and train needs one; make them smaller"
            )
        # The seed is a constant: splits belong to the data set, not to the run.
        members = members[torch.randperm(len(members), generator=seeds.generator(0, stream, label))]
        for name, piece in zip(parts, members.split([*shares, left]), strict=True):
            parts[name].append(piece)
    return {name: torch.cat(pieces).sort().values for name, pieces in parts.items()}


def _share(name: str, size: int, rank: int, num_classes: int) -> int:
    if size < 0:
        raise ValueError(f"{name}_size={size}; it must be at least 0")
    return size // num_classes + (rank < size % num_classes)
