"""A cache of decoded images in one file, written atomically and checked at each reading.

The file has these parts: a line with the file signature; a line with the checksum of everything
that follows; a line of JSON, padded with blanks to a multiple of 64 bytes; the images; the labels.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meta_lr.files import write_atomically

FORMAT = 2
"""Raise it when the layout of the file changes, or when other files of a folder are read."""
_MAGIC = f"meta_lr images {FORMAT}\n".encode()
_CHECKSUM_BYTES = 9
_ALIGNMENT = 64
_NAME_CHARACTERS = 40  # a file name has at most 255 bytes


class ImageArrays(NamedTuple):
    """A decoded image set; the first `num_train` examples are its training part."""

    images: NDArray[np.uint8]
    """(examples, channels, size, size)"""
    labels: NDArray[np.int64]
    """(examples,), positions in `classes`"""
    num_train: int
    classes: tuple[str, ...]


def default_folder() -> Path:
    """Return `$XDG_CACHE_HOME/meta_lr`, or `~/.cache/meta_lr` if the variable is not set."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "meta_lr"


def folder_of(cache: str | os.PathLike[str] | None) -> Path:
    """Return the folder of the cache; None is the default one."""
    return default_folder() if cache is None else Path(cache).expanduser()


def start_of(root: Path) -> str:
    """Return the start of the name of a cache file for the images at `root`."""
    return root.resolve().name[:_NAME_CHARACTERS]


def cached(path: Path, build: Callable[[], ImageArrays]) -> ImageArrays:
    """Return the arrays at `path`; if they are missing or damaged, build and save them first.

    Several processes may do this at the same time: each one builds, and the last file is kept.

    Raises:
        OSError: The file cannot be written.
    """
    arrays = load(path)
    if arrays is None:
        arrays = build()
        save(path, arrays)
    return arrays


def load(path: Path) -> ImageArrays | None:
    """Return the arrays at `path`, memory-mapped; None if missing, damaged or of another format."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC) + _CHECKSUM_BYTES)
            header_line = file.readline()
            offset = file.tell()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not start.startswith(_MAGIC) or path.stat().st_size <= offset:
        return None
    content = np.memmap(path, dtype=np.uint8, mode="c")
    if start != _MAGIC + _checksum(content[len(start) :].data):
        return None
    header = json.loads(header_line)
    split = offset + int(np.prod(header["shape"]))
    return ImageArrays(
        images=content[offset:split].reshape(header["shape"]),
        labels=content[split:].view("<i8").astype(np.int64),
        num_train=header["num_train"],
        classes=tuple(header["classes"]),
    )


def save(path: Path, arrays: ImageArrays) -> None:
    """Write the arrays to `path` atomically.

    Raises:
        OSError: The file cannot be written.
    """
    write(path, *_pieces(arrays))


def write(path: Path, *pieces: bytes | memoryview) -> None:
    """Write a file of the cache atomically.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, *pieces)
    except OSError as error:
        raise OSError(
            f"cannot write the image cache {path} ({error.strerror or error}); free some space or "
            "choose another folder with cache=FOLDER"
        ) from error


def _pieces(arrays: ImageArrays) -> list[bytes | memoryview]:
    images = np.ascontiguousarray(arrays.images, dtype=np.uint8)
    labels = arrays.labels.astype("<i8").tobytes()
    header = {
        "shape": images.shape,
        "num_train": arrays.num_train,
        "classes": arrays.classes,
    }
    line = json.dumps(header).encode()
    line += b" " * (-(len(_MAGIC) + _CHECKSUM_BYTES + len(line) + 1) % _ALIGNMENT) + b"\n"
    return [_MAGIC, _checksum(line, images.data, labels), line, images.data, labels]


def _checksum(*pieces: bytes | memoryview) -> bytes:
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return b"%08x\n" % value
