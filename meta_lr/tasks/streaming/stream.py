"""Classification of images that are read from disk for each batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meta_lr import seeds
from meta_lr.tasks import sampling
from meta_lr.tasks.augment import affine, normalise
from meta_lr.tasks.base import SPLITS, Batch, Split
from meta_lr.tasks.decode import opened
from meta_lr.tasks.fingerprint import checksum
from meta_lr.tasks.images import check_splits, check_statistics
from meta_lr.tasks.layout import found_at
from meta_lr.tasks.models.fit import refuse_other_kind
from meta_lr.tasks.names import name_of
from meta_lr.tasks.parts import rows_of_part
from meta_lr.tasks.splits import with_given_test
from meta_lr.tasks.streaming.files import contents
from meta_lr.tasks.streaming.index import Index, index_of
from meta_lr.tasks.streaming.pixels import centred, cropped, random_crop

_CHANNELS = 3
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_TOP = 5


def imagenet(
    root: str | os.PathLike[str],
    model: Callable[..., nn.Module],
    *,
    size: int = 224,
    batch_size: int = 256,
    seed: int = 0,
    meta_size: int = 10_000,
    val_size: int = 10_000,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    flip: bool = True,
    label_smoothing: float = 0.0,
    mean: Sequence[float] = _MEAN,
    std: Sequence[float] = _STD,
    channels_last: bool = True,
    cache: str | os.PathLike[str] | None = None,
) -> ImageStream:
    """Return the task of classifying the images below `root`, which stay on disk.

    `root` has the layout that `image_folder` describes, with the same rules for hidden files. The
    first call looks at every file once and writes an index of paths and labels to the cache. Later
    calls read the index, if the names of the files are still the same.

    Args:
        root: A directory, or an uncompressed tar archive, which is never unpacked.
        model: Called as `model(in_channels=3, image_size=size, num_classes=...)`.
        size: Height and width of the network's inputs in pixels.
        batch_size: Examples per batch.
        seed: The run's seed.
        meta_size: Examples cut from `train` for `meta`, in class balance.
        val_size: Examples cut from `train` for `val`, in class balance.
        scale: Smallest and largest share of an image's area in a training crop.
        ratio: Smallest and largest width / height of a training crop.
        flip: Whether to mirror at random in training.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1); in the
            training loss only.
        mean: Mean per channel, of pixels in [0, 1].
        std: Standard deviation per channel, of pixels in [0, 1].
        channels_last: Whether inputs are in channels-last order, faster for convolutions.
        cache: Folder of the index; None is `$XDG_CACHE_HOME/meta_lr` or `~/.cache/meta_lr`.

    Raises:
        FileNotFoundError: There is nothing at `root`.
        ValueError: The layout is different, a class has no readable image, the archive is
            compressed or damaged, or a value is out of range.
        OSError: A file cannot be read, or the index cannot be written.
    """
    place = found_at(root)
    index = index_of(place, cache)
    return ImageStream(
        name=name_of(root),
        network=model,
        root=place.resolve(),
        index=index,
        splits=with_given_test(
            index.labels.long(), index.num_train, val_size=val_size, meta_size=meta_size
        ),
        batch_size=batch_size,
        seed=seed,
        size=size,
        scale=tuple(scale),
        ratio=tuple(ratio),
        flip=flip,
        label_smoothing=label_smoothing,
        mean=tuple(mean),
        std=tuple(std),
        channels_last=channels_last,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageStream:
    """A `Task` on image files, with cross-entropy as its loss.

    Batches hold 8-bit pixels; `loss` and `metrics` normalise them on their device. Images of
    `train` and `meta` are cropped and mirrored at random, each by a generator of its own. The
    others are resized, and cropped in the centre.

    Args:
        name: Short name for records.
        network: Called as `network(in_channels=3, image_size=size, num_classes=...)`.
        root: The directory or archive.
        index: Its files and their labels.
        splits: Numbers of the images of each split, disjoint; only `meta` may be empty.
        batch_size: Examples per batch, at most the size of `train`.
        seed: The run's seed, for the initial weights, the order, the crops and the draws.
        size: As in `imagenet`; so are the arguments after it.

    Raises:
        ValueError: An argument is out of range, or a split is empty.
    """

    name: str
    network: Callable[..., nn.Module]
    root: Path
    index: Index = field(repr=False)
    splits: Mapping[Split, Tensor] = field(repr=False)
    batch_size: int
    seed: int
    size: int = 224
    scale: tuple[float, ...] = (0.08, 1.0)
    ratio: tuple[float, ...] = (3 / 4, 4 / 3)
    flip: bool = True
    label_smoothing: float = 0.0
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD
    channels_last: bool = True
    _affine: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        check_splits(self.name, self.splits, len(self.index.labels), meta_overlap=False)
        sampling.check_batch_size(self.name, self.batch_size, len(self.splits["train"]))
        if self.size < 1:
            raise ValueError(f"{self.name} got size={self.size}; it must be at least 1 pixel")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"{self.name} got label_smoothing={self.label_smoothing}; from 0 to below 1"
            )
        _check_interval(self.name, "scale", self.scale, 1.0)
        _check_interval(self.name, "ratio", self.ratio, float("inf"))
        check_statistics(self.name, self.mean, self.std, _CHANNELS)
        facts = ("in_channels", "image_size", "num_classes")
        refuse_other_kind(
            self.name, self.network, facts, "choose a network for images, such as resnet50"
        )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.index.classes)

    def model(self) -> nn.Module:
        """Return a new network, a pure function of the seed."""
        with seeds.initial_weights(self.seed):
            return self.network(
                in_channels=_CHANNELS, image_size=self.size, num_classes=self.num_classes
            )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy with smoothed labels, in nats, shape ()."""
        images, labels = batch
        logits = model(self._inputs(images))
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return means over the batch: `loss` (labels are not smoothed), `accuracy` and `top5`.

        `top5` is the share of examples whose class is among the five largest outputs. There is none
        if there are five classes or fewer.
        """
        images, labels = batch
        logits = model(self._inputs(images))
        correct = logits.argmax(dim=1) == labels
        found = {
            "loss": F.cross_entropy(logits, labels),
            "accuracy": correct.to(logits.dtype).mean(),
        }
        if self.num_classes > _TOP:
            among = (logits.topk(_TOP, dim=1).indices == labels[:, None]).any(dim=1)
            found["top5"] = among.to(logits.dtype).mean()
        return found

    def num_batches(self, split: Split) -> int:
        """Return the number of batches in one pass over the split."""
        return sampling.num_batches(
            split, len(sampling.members(self.splits, split)), self.batch_size
        )

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return (images, labels): uint8 (batch, 3, size, size), and int64 (batch,).

        Raises:
            ValueError: As in `Task.batch`; or an image is broken.
            OSError: A file cannot be read.
        """
        return self._read(split, index, draw, self._choose(split, index, draw), first=0)

    def part(self, split: Split, index: int, part: int, count: int) -> Batch:
        """Return slice number `part` of `count` equal slices of a batch; no other file is read."""
        chosen = self._choose(split, index, None)
        rows = rows_of_part(len(chosen), part, count)
        return self._read(split, index, None, chosen[rows], first=rows.start)

    @cached_property
    def data_fingerprint(self) -> str:
        """Number of images, and a checksum of the files' sizes, of labels and of splits.

        The files themselves are not read.
        """
        splits = (self.splits[split] for split in SPLITS)
        what = f"{len(self.index.labels):,} images"
        return checksum(what, self.index.sizes, self.index.labels, *splits)

    def _read(
        self, split: Split, index: int, draw: int | None, chosen: Tensor, first: int
    ) -> Batch:
        """Return the images with these numbers; the first of them is row `first` of its batch."""
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        shape = (len(chosen), _CHANNELS, self.size, self.size)
        images = torch.empty(shape, dtype=torch.uint8, memory_format=order)
        names = (split, index) if draw is None else (split, index, draw)
        files = contents(self.root, self.index, chosen.tolist())
        for row, (number, content) in enumerate(zip(chosen.tolist(), files, strict=True)):
            try:
                images[row] = self._pixels(split, content, (*names, first + row))
            except ValueError as error:
                path = self.index.path(number)
                raise ValueError(f"{self.root}: the image {path} {error}") from error
        return images, self.index.labels[chosen].long()

    def _pixels(self, split: Split, content: bytes, names: tuple[str | int, ...]) -> Tensor:
        """Return an image file as uint8 (3, size, size); the names select its random crop."""
        image = opened(content)
        if split not in ("train", "meta"):
            return centred(image, self.size)
        crop = random_crop(
            image.height,
            image.width,
            scale=self.scale,
            ratio=self.ratio,
            flip=self.flip,
            generator=seeds.generator(self.seed, "augment", *names),
        )
        return cropped(image, crop, self.size)

    def _choose(self, split: Split, index: int, draw: int | None) -> Tensor:
        return sampling.chosen(
            self.name,
            self.splits,
            split,
            batch_size=self.batch_size,
            seed=self.seed,
            index=index,
            draw=draw,
            keyed=True,
        )

    def _inputs(self, images: Tensor) -> Tensor:
        """Return normalised images, on their device and in their memory order."""
        where = images.device, torch.get_default_dtype()
        if where not in self._affine:  # a copy in each step would wait for the device
            scale, shift = affine(self.mean, self.std)
            self._affine[where] = scale.to(where[1]).to(where[0]), shift.to(where[1]).to(where[0])
        return normalise(images, *self._affine[where])


def _check_interval(name: str, what: str, values: Sequence[float], largest: float) -> None:
    if len(values) != 2 or not 0 < values[0] <= values[1] <= largest:
        raise ValueError(
            f"{name} got {what}={list(values)}; needed are two positive numbers, the smaller first"
            + (f", at most {largest:g}" if largest < float("inf") else "")
        )
