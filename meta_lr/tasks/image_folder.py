"""Small labelled images from a directory or a tar archive in torchvision's ImageFolder layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from meta_lr.tasks.cache import FORMAT, ImageArrays, cached, default_folder
from meta_lr.tasks.decode import decode
from meta_lr.tasks.images import ImageTask
from meta_lr.tasks.members import SUFFIXES, fingerprint, members
from meta_lr.tasks.names import name_of
from meta_lr.tasks.noise import Noise, named
from meta_lr.tasks.splits import with_given_test

_NAME_CHARACTERS = 40
_NOTHING = f"no visible files that end in {', '.join(SUFFIXES)}"
_LAYOUT = "needed are train/CLASS/*.jpg and one more directory, such as test/CLASS/*.jpg"


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
    folder = Path(root).expanduser()
    if not folder.exists():
        raise FileNotFoundError(
            f"there is nothing at root={folder} ({folder.absolute()}); {_LAYOUT}"
        )
    if size < 1:
        raise ValueError(f"image_folder got size={size}; it must be at least 1 pixel")
    where = default_folder() if cache is None else Path(cache).expanduser()
    start = folder.resolve().name[:_NAME_CHARACTERS]  # a file name has at most 255 bytes
    name = f"{start}-{size}-{FORMAT}-{fingerprint(folder)}.images"
    return cached(where / name, lambda: _decode_all(folder, size))


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
    top = _parts_above_train(root, images)
    placed = [path for path in images if len(path.parts) >= top + 3]
    _refuse_empty_classes(root, placed, folders, top + 2)
    seconds = {path.parts[top] for path in placed} - {"train"}
    if len(seconds) != 1:
        found = ", ".join(sorted(seconds)) or "none"
        raise ValueError(f"{root} has these directories beside train: {found}; {_LAYOUT}")
    placed.sort(key=lambda path: (path.parts[top] != "train", path.parts))
    num_train = sum(path.parts[top] == "train" for path in placed)
    names = [path.parts[top + 1] for path in placed]
    classes = sorted(set(names[:num_train]))
    unknown = sorted(set(names[num_train:]) - set(classes))
    if unknown:
        raise ValueError(f"{root} has classes in {seconds.pop()} that train has not: {unknown[:5]}")
    position = {name: label for label, name in enumerate(classes)}
    return ImageArrays(
        images=_stacked(root, [images[path] for path in placed]),
        labels=np.array([position[name] for name in names], dtype=np.int64),
        num_train=num_train,
        classes=tuple(classes),
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


def _parts_above_train(root: Path, paths: Collection[PurePosixPath]) -> int:
    """Return how many directories there are above `train`: 0 or 1."""
    deep = [path.parts for path in paths if len(path.parts) >= 3]
    if any(parts[0] == "train" for parts in deep):
        return 0
    if len({parts[0] for parts in deep}) == 1 and any(
        parts[1] == "train" and len(parts) >= 4 for parts in deep
    ):
        return 1
    found = ", ".join(sorted({path.parts[0] for path in paths})[:5]) or _NOTHING
    raise ValueError(f"{root} has no train/CLASS/ with images (found: {found}); {_LAYOUT}")


def _refuse_empty_classes(
    root: Path, placed: Sequence[PurePosixPath], folders: Collection[PurePosixPath], depth: int
) -> None:
    """Refuse a class folder (a path of `depth` parts) without a readable image."""
    splits = {path.parts[: depth - 1] for path in placed}
    classes = {path.parts[:depth] for path in placed}
    for folder in sorted(folders):
        found = folder.parts[:depth]
        if len(found) == depth and found[:-1] in splits and found not in classes:
            raise ValueError(
                f"{root} has no image in {'/'.join(found)}, as none of its files ends in "
                f"{', '.join(SUFFIXES)}; convert its images, or remove it"
            )


def _decode(root: Path, path: PurePosixPath, content: bytes, size: int) -> NDArray[np.uint8]:
    try:
        return decode(content, size)
    except ValueError as error:
        raise ValueError(f"{root}: the image {path} {error}") from error
