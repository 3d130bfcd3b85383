"""An index of image files: where they are and their labels, in a few arrays and in one file.

A million paths as Python objects take hundreds of megabytes, which the reference counts of worker
processes would copy. Here they are one tensor of bytes, which all processes map from the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from meta_lr.tasks.cache import folder_of, start_of, write
from meta_lr.tasks.fingerprint import checksum
from meta_lr.tasks.layout import layout_of
from meta_lr.tasks.members import Span, fingerprint, spans, walk

_FORMAT = "meta_lr index 1"
_BETWEEN = b"\0"  # between the parts of a path; it sorts before all that a name may hold
_ARRAYS = ("paths", "ends", "labels", "starts", "sizes")


class Index(NamedTuple):
    """Image files in a fixed order; the first `num_train` are the training part."""

    paths: Tensor
    """uint8; all paths below the root, one after the other."""
    ends: Tensor
    """int64, (images,); where each path ends in `paths`."""
    labels: Tensor
    """int32, (images,); positions in `classes`."""
    starts: Tensor
    """int64, (images,); the first byte of each file in the archive, 0 in a directory."""
    sizes: Tensor
    """int64, (images,); bytes of each file."""
    num_train: int
    classes: tuple[str, ...]

    def path(self, image: int) -> str:
        """Return the path of an image below the root."""
        start = int(self.ends[image - 1]) if image else 0
        return os.fsdecode(self.paths[start : int(self.ends[image])].numpy().tobytes())

    def span(self, image: int) -> Span:
        """Return where the bytes of an image are."""
        return Span(int(self.starts[image]), int(self.sizes[image]))


def index_of(root: Path, cache: str | os.PathLike[str] | None = None) -> Index:
    """Return the index of the images at `root`, from the cache if nothing has changed since.

    A directory has changed if the names or the time of a folder have, or the first image in it. No
    other file is looked at, because a million files on a network take minutes.

    Args:
        root: A directory or an uncompressed tar archive in ImageFolder's layout.
        cache: Folder of the cache; None is the default one.

    Raises:
        ValueError: The layout is different, or the archive is compressed or damaged.
        OSError: A file cannot be read, or the index cannot be written.
    """
    _refuse_compressed(root)
    key = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=8).hexdigest()
    path = folder_of(cache) / f"{start_of(root)}-{key}.index"
    stamp = f"{_FORMAT} {_stamp(root) if root.is_dir() else fingerprint(root)}"
    index = _load(path, stamp)
    if index is None:
        index = indexed(root, spans(root))
        _save(path, stamp, index)
    return index


def indexed(root: Path, entries: Iterable[tuple[PurePosixPath, Span | None]]) -> Index:
    """Return the index of files and folders as `members.spans` yields them, in any order.

    Args:
        root: For messages.
        entries: Paths below `root`; if two files have the same path, the later one counts.
    """
    keys: list[bytes] = []
    starts, sizes, places = array("q"), array("q"), array("q")
    folders: set[PurePosixPath] = set()
    first: dict[PurePosixPath, PurePosixPath] = {}  # folder -> an image in it
    numbers: dict[PurePosixPath, int] = {}  # folder -> its number
    for path, span in entries:
        if span is None:
            folders.add(path)
            continue
        first.setdefault(path.parent, path)
        keys.append(_BETWEEN.join(map(os.fsencode, path.parts)))
        starts.append(span.start)
        sizes.append(span.size)
        places.append(numbers.setdefault(path.parent, len(numbers)))
    classes, labels, in_train = _of_folders(root, list(first.values()), folders)
    place = np.asarray(places)
    order = _ordered(keys, labels[place])
    order = np.concatenate([order[in_train[place[order]]], order[~in_train[place[order]]]])
    paths = b"".join(keys[number] for number in order).replace(_BETWEEN, b"/")
    return Index(
        paths=torch.frombuffer(bytearray(paths), dtype=torch.uint8),
        ends=torch.tensor([len(keys[number]) for number in order]).cumsum(0),
        labels=torch.from_numpy(labels[place[order]]),
        starts=torch.from_numpy(np.asarray(starts)[order]),
        sizes=torch.from_numpy(np.asarray(sizes)[order]),
        num_train=int(in_train[place[order]].sum()),
        classes=classes,
    )


def _of_folders(
    root: Path, firsts: Sequence[PurePosixPath], folders: set[PurePosixPath]
) -> tuple[tuple[str, ...], NDArray[np.int32], NDArray[np.bool_]]:
    """Return the classes; and, per folder with images, its label (or -1) and whether it trains.

    Args:
        root: For messages.
        firsts: One image of each folder that holds images.
        folders: All folders.
    """
    layout = layout_of(root, firsts, folders)
    position = {name: label for label, name in enumerate(layout.classes)}
    labels = [position[layout.class_of(path)] if layout.holds(path) else -1 for path in firsts]
    in_train = [layout.holds(path) and layout.in_train(path) for path in firsts]
    return layout.classes, np.array(labels, dtype=np.int32), np.array(in_train)


def _ordered(keys: Sequence[bytes], labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the numbers of the files with a label, by path; the last one of each path."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    after = [*order[1:], None]
    kept = [
        number
        for number, following in zip(order, after, strict=True)
        if labels[number] >= 0 and (following is None or keys[number] != keys[following])
    ]
    return np.array(kept, dtype=np.int64)


def _stamp(root: Path) -> str:
    """Return a text that changes with the folders that hold images."""
    root = root.resolve()
    found = {folder: (_folder_stamp(folder, names), bool(names)) for folder, names in walk(root)}
    tops = {folder.relative_to(root).parts[:1] for folder, (_, holds) in found.items() if holds}
    whole = hashlib.blake2b(digest_size=16)
    for folder, (stamp, _) in found.items():
        if folder != root and folder.relative_to(root).parts[:1] in tops:
            whole.update(os.fsencode(folder) + b"\0" + stamp)
    return whole.hexdigest()


def _folder_stamp(folder: Path, names: Sequence[str]) -> bytes:
    digest = hashlib.blake2b("\0".join(names).encode(errors="surrogateescape"))
    for path in (folder, *(folder / name for name in names[:1])):
        info = path.stat()
        digest.update(f"\0{info.st_mtime_ns}".encode())
        digest.update(f"\0{info.st_size if path != folder else 0}".encode())
    return digest.digest()


def _refuse_compressed(root: Path) -> None:
    """Raise a ValueError for an archive in which one file cannot be read without those before."""
    if not root.is_file():
        return
    starts = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
    with root.open("rb") as file:
        head = file.read(8)
    for start, kind in starts.items():
        if head.startswith(start):
            raise ValueError(
                f"{root} is compressed ({kind}), so single images cannot be read from it; unpack "
                "it and give the directory, or pack it as a plain .tar"
            )


def _load(path: Path, stamp: str) -> Index | None:
    """Return the index at `path`, mapped from the file; None if missing, damaged or out of date."""
    with suppress(FileNotFoundError, NotADirectoryError, SafetensorError):
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("stamp") != stamp:
                return None
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
        if facts["checksum"] == checksum("index", *arrays.values()):
            classes = tuple(json.loads(facts["classes"]))
            return Index(**arrays, num_train=int(facts["num_train"]), classes=classes)
    return None


def _save(path: Path, stamp: str, index: Index) -> None:
    arrays = index._asdict()
    facts = {
        "stamp": stamp,
        "checksum": checksum("index", *(arrays[name] for name in _ARRAYS)),
        "num_train": str(index.num_train),
        "classes": json.dumps(index.classes),
    }
    write(path, save({name: arrays[name] for name in _ARRAYS}, facts))
