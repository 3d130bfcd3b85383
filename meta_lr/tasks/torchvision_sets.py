"""Image sets that torchvision can download: CIFAR-10, CIFAR-100, MNIST, Fashion-MNIST, SVHN."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from meta_lr.tasks.images import ImageTask
from meta_lr.tasks.splits import with_given_test


@dataclass(frozen=True)
class _Source:
    kind: str
    """Name of torchvision's class."""
    url: str
    files: tuple[str, ...]
    folder: str = ""
    """Where the files belong, below `root`."""


_IDX_FILES = tuple(
    f"{part}-{what}-ubyte.gz"
    for part in ("train", "t10k")
    for what in ("images-idx3", "labels-idx1")
)
_SOURCES = {
    "cifar10": _Source("CIFAR10", "https://www.cs.toronto.edu/~kriz/", ("cifar-10-python.tar.gz",)),
    "cifar100": _Source(
        "CIFAR100", "https://www.cs.toronto.edu/~kriz/", ("cifar-100-python.tar.gz",)
    ),
    "mnist": _Source(
        "MNIST", "https://ossci-datasets.s3.amazonaws.com/mnist/", _IDX_FILES, "MNIST/raw"
    ),
    "fashion_mnist": _Source(
        "FashionMNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        _IDX_FILES,
        "FashionMNIST/raw",
    ),
    "svhn": _Source(
        "SVHN", "http://ufldl.stanford.edu/housenumbers/", ("train_32x32.mat", "test_32x32.mat")
    ),
}


def torchvision_set(
    dataset: str,
    model: Callable[..., nn.Module],
    *,
    root: str | os.PathLike[str] = "data",
    download: bool = True,
    batch_size: int = 128,
    seed: int = 0,
    meta_size: int = 1000,
    val_size: int = 5000,
    crop_padding: int = 4,
    flip: bool = True,
    channels_last: bool = True,
) -> ImageTask:
    """Return the task of classifying one of torchvision's image sets.

    Args:
        dataset: `cifar10`, `cifar100`, `mnist`, `fashion_mnist` or `svhn` (without its extra part).
        model: Called as `model(in_channels=..., image_size=..., num_classes=...)`.
        root: Folder in torchvision's layout.
        download: Whether to fetch or unpack into `root` what is missing there.
        batch_size: Examples per batch.
        seed: The run's seed.
        meta_size: Examples cut from the training part for `meta`, in class balance.
        val_size: Examples cut from the training part for `val`, in class balance.
        crop_padding: Pixels of padding before a random crop in training; 0 for no crop.
        flip: Whether to mirror at random in training.
        channels_last: Whether inputs are in channels-last order, faster for convolutions on CPU.

    Raises:
        FileNotFoundError: The data is missing and cannot be downloaded.
        ValueError: The data set is unknown, or a size does not fit.
    """
    if dataset not in _SOURCES:
        raise ValueError(f"{dataset!r} is no data set here; choose one of {', '.join(_SOURCES)}")
    train, test = _load(dataset, Path(root).expanduser(), download)
    labels = torch.cat((train[1], test[1]))
    return ImageTask(
        name=dataset,
        num_classes=int(labels.max()) + 1,
        network=model,
        images=torch.cat((train[0], test[0])),
        labels=labels,
        splits=with_given_test(labels, len(train[1]), val_size=val_size, meta_size=meta_size),
        batch_size=batch_size,
        seed=seed,
        crop_padding=crop_padding,
        flip=flip,
        channels_last=channels_last,
    )


def _load(dataset: str, root: Path, download: bool) -> list[tuple[Tensor, Tensor]]:
    """Return images (examples, channels, size, size) and labels of both parts."""
    try:
        return _open(dataset, root, download=False)
    except RuntimeError as missing:
        if not download:
            raise FileNotFoundError(_advice(dataset, root, "download=false")) from missing
    try:
        return _open(dataset, root, download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise FileNotFoundError(_advice(dataset, root, f"downloading failed: {reason}")) from error


def _open(dataset: str, root: Path, *, download: bool) -> list[tuple[Tensor, Tensor]]:
    from torchvision import datasets

    kind = getattr(datasets, _SOURCES[dataset].kind)
    if dataset == "svhn":
        parts = [kind(root, split=split, download=download) for split in ("train", "test")]
        return [(_channels_first(part.data), torch.as_tensor(part.labels)) for part in parts]
    parts = [kind(root, train=train, download=download) for train in (True, False)]
    return [(_channels_first(part.data), torch.as_tensor(part.targets)) for part in parts]


def _channels_first(data: Any) -> Tensor:
    """Return (N, C, H, W) from torchvision's (N, H, W), (N, H, W, 3) or (N, 3, H, W)."""
    images = torch.as_tensor(data)
    if images.ndim == 3:
        return images.unsqueeze(1)
    return (images.permute(0, 3, 1, 2) if images.shape[3] == 3 else images).contiguous()


def _advice(dataset: str, root: Path, reason: str) -> str:
    source = _SOURCES[dataset]
    return (
        f"{dataset} is not in {root.absolute()} ({reason}); put {', '.join(source.files)} from "
        f"{source.url} into {root.absolute() / source.folder} and run again with download=true"
    )
