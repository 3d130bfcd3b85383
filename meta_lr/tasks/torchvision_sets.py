"""Image sets that torchvision can download: CIFAR-10, CIFAR-100, MNIST, Fashion-MNIST, SVHN."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from meta_lr.extras import explained
from meta_lr.tasks.images import ImageTask
from meta_lr.tasks.noise import Noise, named
from meta_lr.tasks.splits import with_given_test


@dataclass(frozen=True)
class _Source:
    kind: str
    """Name of torchvision's class."""
    url: str
    folder: str = ""
    """Where the files belong, below `root`."""


_SOURCES = {
    "cifar10": _Source("CIFAR10", "https://www.cs.toronto.edu/~kriz/"),
    "cifar100": _Source("CIFAR100", "https://www.cs.toronto.edu/~kriz/"),
    "mnist": _Source("MNIST", "https://ossci-datasets.s3.amazonaws.com/mnist/", "MNIST/raw"),
    "fashion_mnist": _Source(
        "FashionMNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "FashionMNIST/raw",
    ),
    "svhn": _Source("SVHN", "http://ufldl.stanford.edu/housenumbers/"),
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
    meta_overlap: bool = False,
    noise: Noise = "none",
    noise_share: float = 0.0,
) -> ImageTask:
    """Return the task of classifying one of torchvision's image sets.

    Args:
        dataset: `cifar10`, `cifar100`, `mnist`, `fashion_mnist` or `svhn` (without its extra part).
        model: Called as `model(in_channels=..., image_size=..., num_classes=...)`.
        root: Folder in torchvision's layout.
        download: Whether to download or unpack missing files into `root`.
        batch_size: Examples per batch.
        seed: The run's seed.
        meta_size: Examples cut from the training part for `meta`, in class balance.
        val_size: Examples cut from the training part for `val`, in class balance.
        crop_padding: Pixels of padding before a random crop in training; 0 for no crop.
        flip: Whether to mirror at random in training.
        channels_last: Whether inputs are in channels-last order, faster for convolutions on CPU.
        meta_overlap: Whether `meta` is also drawn from the training examples, as in MLR-SNet's
            published code; `train` is the same with and without it.
        noise: Kind of label noise in `train`: `none`, `uniform` or `flip`, as described in
            `meta_lr.tasks.noise`.
        noise_share: Share of wrong labels in `train`, in [0, 1].

    Raises:
        FileNotFoundError: The data is missing and cannot be downloaded.
        ValueError: The data set is unknown or damaged, or a size does not fit.
    """
    if dataset not in _SOURCES:
        raise ValueError(f"{dataset!r} is no data set here; choose one of {', '.join(_SOURCES)}")
    train, test = _load(dataset, Path(root).expanduser(), download)
    labels = torch.cat((train[1], test[1]))
    return ImageTask(
        name=named(dataset, noise, noise_share),
        num_classes=int(labels.max()) + 1,
        network=model,
        images=torch.cat((train[0], test[0])),
        labels=labels,
        splits=with_given_test(
            labels,
            len(train[1]),
            val_size=val_size,
            meta_size=meta_size,
            meta_overlap=meta_overlap,
        ),
        batch_size=batch_size,
        seed=seed,
        crop_padding=crop_padding,
        flip=flip,
        channels_last=channels_last,
        meta_overlap=meta_overlap,
        noise=noise,
        noise_share=noise_share,
    )


def _load(dataset: str, root: Path, download: bool) -> list[tuple[Tensor, Tensor]]:
    """Return images (examples, channels, size, size) and labels of both parts."""
    try:
        return _open(dataset, root, download=False)
    except (RuntimeError, ValueError, AssertionError, LookupError, EOFError) as error:
        if not isinstance(error, RuntimeError) or "not found" not in str(error):
            place = root.absolute() / _SOURCES[dataset].folder
            raise ValueError(
                f"the files of {dataset} in {place} are damaged, say because unpacking was "
                "interrupted; remove them and run again with download=true"
            ) from error
        if not download:
            raise FileNotFoundError(_advice(dataset, root, "download=false")) from error
    try:
        return _open(dataset, root, download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise FileNotFoundError(_advice(dataset, root, f"downloading failed: {reason}")) from error


def _open(dataset: str, root: Path, *, download: bool) -> list[tuple[Tensor, Tensor]]:
    kind = _kind(dataset)
    if dataset == "svhn":
        parts = [kind(root, split=split, download=download) for split in ("train", "test")]
        return [(_channels_first(part.data), torch.as_tensor(part.labels)) for part in parts]
    parts = [kind(root, train=train, download=download) for train in (True, False)]
    return [(_channels_first(part.data), torch.as_tensor(part.targets)) for part in parts]


def _kind(dataset: str) -> Any:
    with explained():
        from torchvision import datasets

    return getattr(datasets, _SOURCES[dataset].kind)


def _channels_first(data: Any) -> Tensor:
    """Return (N, C, H, W) from torchvision's (N, H, W), (N, H, W, 3) or (N, 3, H, W)."""
    images = torch.as_tensor(data)
    if images.ndim == 3:
        return images.unsqueeze(1)
    return (images.permute(0, 3, 1, 2) if images.shape[3] == 3 else images).contiguous()


def _advice(dataset: str, root: Path, reason: str) -> str:
    """Return advice for missing data: which files to put where."""
    with explained():
        from torchvision.datasets.utils import check_integrity

    source, files = _SOURCES[dataset], _packed(dataset)
    place = root.absolute() / source.folder
    wanted = [
        name for name, checksum in files.items() if not check_integrity(place / name, checksum)
    ]
    damaged = [name for name in wanted if (place / name).exists()]
    if damaged:
        reason = f"{reason}; damaged: {', '.join(damaged)}"
    here = f"{dataset} is not in {root.absolute()} ({reason})"
    if not wanted:
        return f"{here}; run again with download=true, which unpacks what is there"
    return (
        f"{here}; put {', '.join(wanted)} from {source.url} into {place} "
        "and run again with download=true"
    )


def _packed(dataset: str) -> dict[str, str | None]:
    """Return the names of the files to download and their MD5 sums, from torchvision."""
    kind = _kind(dataset)
    if dataset == "svhn":
        return {name: md5 for _, name, md5 in (kind.split_list[p] for p in ("train", "test"))}
    return dict(kind.resources) if hasattr(kind, "resources") else {kind.filename: kind.tgz_md5}
