"""Decoded images kept in one file: written whole or not at all, checked whenever it is read.

The file is a line of magic, a line with the checksum of all that follows, a line of JSON that is
padded with blanks up to a multiple of 64 bytes, the images, the labels.
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
"""To be raised when the file's layout changes, or what is read from a folder of images."""
_MAGIC = f"meta_lr images {FORMAT}\n".encode()
_CHECKSUM_BYTES = 9
_ALIGNMENT = 64


class ImageArrays(NamedTuple):
    """A decoded image set; the first `num_train` examples are its training part."""

    images: NDArray[np.uint8]
    """(examples, channels, size, size)"""
    labels: NDArray[np.int64]
    """(examples,), positions in `classes`"""
    num_train: int
    classes: tuple[str, ...]


def default_folder() -> Path:
    """Return `$XDG_CACHE_HOME/meta_lr`, or `~/.cache/meta_lr` where that is not set."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "meta_lr"


def cached(path: Path, build: Callable[[], ImageArrays]) -> ImageArrays:
    """Return the arrays at `path`, built and saved first if they are absent or damaged.

    Any number of processes may do this at once: each builds, the last one's file stays.

    Raises:
        OSError: The file cannot be written.
    """
    arrays = load(path)
    if arrays is None:
        arrays = build()
        save(path, arrays)
    return arrays


def load(path: Path) -> ImageArrays | None:
    """Return the arrays at `path`, memory-mapped; None if absent, damaged or of another format."""
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
    """Write the arrays to `path` in one atomic step.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, *_pieces(arrays))
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
