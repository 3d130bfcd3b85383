"""Small labelled images from a directory or a tar archive in torchvision's ImageFolder layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from meta_lr.tasks.cache import FORMAT, ImageArrays, cached, folder_of, start_of
from meta_lr.tasks.decode import decode
from meta_lr.tasks.images import ImageTask
from meta_lr.tasks.layout import found_at, layout_of
from meta_lr.tasks.members import fingerprint, members
from meta_lr.tasks.names import name_of
from meta_lr.tasks.noise import Noise, named
from meta_lr.tasks.splits import with_given_test


def image_folder(
    root: str | os.PathLike[str],
    model: Callable[..., nn.Module],
    *,
    size: int = 32,
    batch_size: int = 128,
    seed: int = 0,
    meta_size: int = 1000,
    val_size: int = 2000,
    crop_padding: int = 4,
    flip: bool = True,
    channels_last: bool = True,
    meta_overlap: bool = False,
    noise: Noise = "none",
    noise_share: float = 0.0,
    cache: str | os.PathLike[str] | None = None,
) -> ImageTask:
    """Return the task of classifying the images below `root`.

    `root` holds the directory `train` and one other directory, which is the split `test`, with any
    name. Both hold one directory per class. One parent directory above the two is allowed. Only
    files with the suffixes `members.SUFFIXES` are read; hidden files and folders are left out. The
    images are decoded once, to 8-bit RGB of `size` x `size` pixels (bilinear, the aspect ratio is
    not kept). They are stored in a cache that is checked at each start.

    Args:
        root: A directory, or a tar archive (plain, gz, bz2 or xz), which is never unpacked.
        model: Called as `model(in_channels=3, image_size=size, num_classes=...)`.
        size: Height and width in pixels; every image is resized to it.
        batch_size: Examples per batch.
        seed: The run's seed.
        meta_size: Examples cut from `train` for `meta`, in class balance.
        val_size: Examples cut from `train` for `val`, in class balance.
        crop_padding: Pixels of padding before a random crop in training; 0 for no crop.
        flip: Whether to mirror at random in training.
        channels_last: Whether inputs are in channels-last order, faster for convolutions on CPU.
        meta_overlap: Whether `meta` is also drawn from the training examples, as in MLR-SNet's
            published code; `train` is the same with and without it.
        noise: Kind of label noise in `train`: `none`, `uniform` or `flip`, as described in
            `meta_lr.tasks.noise`.
        noise_share: Share of wrong labels in `train`, in [0, 1].
        cache: Folder of the cache; None is `$XDG_CACHE_HOME/meta_lr` or `~/.cache/meta_lr`.

    Raises:
        FileNotFoundError: There is nothing at `root`.
        ValueError: The layout is different, a class has no readable image, an image or the archive
            is broken, the values of an image have no known range, or a size does not fit.
        OSError: A file cannot be read, or the cache cannot be written.
    """
    arrays = load_images(root, size=size, cache=cache)
    labels = torch.from_numpy(arrays.labels)
    return ImageTask(
        name=named(name_of(root), noise, noise_share),
        num_classes=len(arrays.classes),
        network=model,
        images=torch.from_numpy(arrays.images),
        labels=labels,
        splits=with_given_test(
            labels,
            arrays.num_train,
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


def load_images(
    root: str | os.PathLike[str], *, size: int, cache: str | os.PathLike[str] | None = None
) -> ImageArrays:
    """Return all images below `root`, those of `train` first, decoded or read from the cache."""
    folder = found_at(root)
    if size < 1:
        raise ValueError(f"image_folder got size={size}; it must be at least 1 pixel")
    name = f"{start_of(folder)}-{size}-{FORMAT}-{fingerprint(folder)}.images"
    return cached(folder_of(cache) / name, lambda: _decode_all(folder, size))


def _decode_all(root: Path, size: int) -> ImageArrays:
    images: dict[PurePosixPath, NDArray[np.uint8]] = {}
    folders: set[PurePosixPath] = set()
    for path, content in members(root):
        if content is None:
            folders.add(path)
        else:
            images[path] = _decode(root, path, content, size)
    return _arranged(root, images, folders)


def _arranged(
    root: Path, images: Mapping[PurePosixPath, NDArray[np.uint8]], folders: Set[PurePosixPath]
) -> ImageArrays:
    layout = layout_of(root, images, folders)
    placed = [path for path in images if layout.holds(path)]
    placed.sort(key=lambda path: (not layout.in_train(path), path.parts))
    position = {name: label for label, name in enumerate(layout.classes)}
    return ImageArrays(
        images=_stacked(root, [images[path] for path in placed]),
        labels=np.array([position[layout.class_of(path)] for path in placed], dtype=np.int64),
        num_train=sum(map(layout.in_train, placed)),
        classes=layout.classes,
    )


def _stacked(root: Path, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    try:
        return np.stack(images)
    except MemoryError as error:
        size = images[0].shape[1]
        raise ValueError(
            f"{root} has {len(images)} images, too many for this machine's memory at size={size}; "
            "choose a smaller size="
        ) from error


def _decode(root: Path, path: PurePosixPath, content: bytes, size: int) -> NDArray[np.uint8]:
    try:
        return decode(content, size)
    except ValueError as error:
        raise ValueError(f"{root}: the image {path} {error}") from error
