"""Classification of small images that are stored in memory as uint8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meta_lr import seeds
from meta_lr.tasks import sampling
from meta_lr.tasks.augment import (
    affine,
    channel_statistics,
    normalise,
    random_crop_and_flip,
)
from meta_lr.tasks.base import SPLITS, Batch, Split
from meta_lr.tasks.fingerprint import checksum
from meta_lr.tasks.models.fit import refuse_other_kind
from meta_lr.tasks.noise import Noise, noisy, refuse_unknown


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageTask:
    """A `Task` on square images, with cross-entropy as its loss.

    Batches are normalised per channel; those of `train` and `meta` are cropped and mirrored first.

    Args:
        name: Short name for records.
        num_classes: Number of classes.
        network: Called as `network(in_channels=..., image_size=..., num_classes=...)`.
        images: uint8, (examples, channels, size, size); never modified.
        labels: int64, (examples,), from 0 to `num_classes - 1`.
        splits: Indices of the examples of each split, disjoint; only `meta` may be empty.
        batch_size: Examples per batch, at most the size of `train`.
        seed: The run's seed, for the initial weights, the order, the crops and the draws.
        crop_padding: Pixels of padding before the random crop; 0 for no crop.
        flip: Whether to mirror at random.
        channels_last: Whether the inputs' memory is in channels-last order, faster for
            convolutions on CPU; the values are the same.
        mean: Mean per channel in [0, 1]; None uses that of `train`.
        std: Standard deviation per channel in [0, 1]; None uses that of `train`.
        meta_overlap: Whether `meta` may share examples with `train`, as in MLR-SNet's published
            code; by default all splits are disjoint.
        noise: Kind of label noise in `train`, see `meta_lr.tasks.noise`; the other splits have no
            noise.
        noise_share: Share of wrong labels in `train`, in [0, 1]; the seed selects them.

    Raises:
        ValueError: Shapes, types, labels or splits do not fit together.
    """

    name: str
    num_classes: int
    network: Callable[..., nn.Module]
    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    splits: Mapping[Split, Tensor] = field(repr=False)
    batch_size: int
    seed: int
    crop_padding: int = 0
    flip: bool = False
    channels_last: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    meta_overlap: bool = False
    noise: Noise = "none"
    noise_share: float = 0.0

    def __post_init__(self) -> None:
        _check_arrays(self.name, self.images, self.labels, self.num_classes)
        check_splits(self.name, self.splits, len(self.images), self.meta_overlap)
        sampling.check_batch_size(self.name, self.batch_size, len(self.splits["train"]))
        if self.crop_padding < 0:
            raise ValueError(f"{self.name} got crop_padding={self.crop_padding}; at least 0")
        check_statistics(self.name, self.mean, self.std, self.images.shape[1])
        refuse_unknown(self.name, self.noise, self.noise_share)
        facts = ("in_channels", "image_size", "num_classes")
        refuse_other_kind(
            self.name, self.network, facts, "choose a network for images, such as mlp"
        )

    def model(self) -> nn.Module:
        """Return a new network, a pure function of the seed."""
        with seeds.initial_weights(self.seed):
            return self.network(
                in_channels=self.images.shape[1],
                image_size=self.images.shape[2],
                num_classes=self.num_classes,
            )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy in nats, shape ()."""
        images, labels = batch
        return F.cross_entropy(model(images), labels)

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and `accuracy` (share of correct answers), means over the batch."""
        images, labels = batch
        logits = model(images)
        correct = logits.argmax(dim=1) == labels
        return {
            "loss": F.cross_entropy(logits, labels),
            "accuracy": correct.to(logits.dtype).mean(),
        }

    def num_batches(self, split: Split) -> int:
        """Return the number of batches in one pass over the split."""
        return sampling.num_batches(
            split, len(sampling.members(self.splits, split)), self.batch_size
        )

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return (images, labels): floats (batch, channels, size, size), and int64 (batch,)."""
        chosen = self._choose(split, index, draw)
        images = self.images.index_select(0, chosen)
        if split in ("train", "meta") and (self.crop_padding or self.flip):
            names = (split, index) if draw is None else (split, index, draw)
            generator = seeds.generator(self.seed, "augment", *names)
            images = random_crop_and_flip(
                images, generator, padding=self.crop_padding, flip=self.flip
            )
        inputs = normalise(images, *self._scale_and_shift)
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs, (self._train_labels if split == "train" else self.labels)[chosen]

    @cached_property
    def data_fingerprint(self) -> str:
        """Number of images, and a checksum of images, labels and splits."""
        splits = (self.splits[split] for split in SPLITS)
        return checksum(f"{len(self.images):,} images", self.images, self.labels, *splits)

    def _choose(self, split: Split, index: int, draw: int | None) -> Tensor:
        return sampling.chosen(
            self.name,
            self.splits,
            split,
            batch_size=self.batch_size,
            seed=self.seed,
            index=index,
            draw=draw,
        )

    @cached_property
    def _train_labels(self) -> Tensor:
        return noisy(
            self.labels,
            self.splits["train"],
            noise=self.noise,
            share=self.noise_share,
            num_classes=self.num_classes,
            seed=self.seed,
        )

    @cached_property
    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        mean, std = self.mean, self.std
        if mean is None or std is None:
            of_train = channel_statistics(self.images, self.splits["train"])
            mean, std = mean or of_train[0], std or of_train[1]
        return affine(mean, std)


def _check_arrays(name: str, images: Tensor, labels: Tensor, num_classes: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(
            f"{name} got images of {images.dtype} and shape {tuple(images.shape)}; needed are "
            "uint8 and (examples, channels, size, size)"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{name} got labels of {labels.dtype} and shape {tuple(labels.shape)}; needed are "
            f"int64 and ({len(images)},)"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(
            f"{name} has labels from {int(labels.min())} to {int(labels.max())}; they must be "
            f"from 0 to num_classes - 1 = {num_classes - 1}"
        )


def check_splits(
    name: str, splits: Mapping[Split, Tensor], num_examples: int, meta_overlap: bool
) -> None:
    """Raise a ValueError if splits are missing, empty, out of range or overlap."""
    if set(splits) != set(SPLITS):
        raise ValueError(f"{name} got splits {sorted(splits)}; needed are {', '.join(SPLITS)}")
    empty = [split for split in SPLITS if split != "meta" and not len(splits[split])]
    if empty:
        sizes = " and ".join(f"{split}_size=" for split in empty)
        raise ValueError(f"{name} has no examples in {' and '.join(empty)}; raise {sizes}")
    together = torch.cat([splits[split] for split in SPLITS])
    if together.min() < 0 or together.max() >= num_examples:
        raise ValueError(f"{name} has split indices outside 0 to {num_examples - 1}")
    for apart in (SPLITS[1:], SPLITS[:1] + SPLITS[2:]) if meta_overlap else (SPLITS,):
        together = torch.cat([splits[split] for split in apart])
        if len(together.unique()) != len(together):
            raise ValueError(f"{name} has splits that overlap; each example belongs to one")


def check_statistics(
    name: str, mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> None:
    """Raise a ValueError unless there is one number per channel, and no deviation is zero."""
    if any(given is not None and len(given) != channels for given in (mean, std)):
        raise ValueError(f"{name} got mean={mean} and std={std}; needed are {channels} numbers")
    if std is not None and min(std) <= 0:
        raise ValueError(f"{name} got std={std}; every number must be positive")
