"""The bytes of image files, by their number in an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from meta_lr.tasks.streaming.index import Index


def contents(root: Path, index: Index, images: Iterable[int]) -> Iterator[bytes]:
    """Yield the content of each image file.

    An archive is opened for each call, because processes that share an open file would also share
    its position.

    Raises:
        OSError: A file cannot be read.
    """
    if root.is_dir():
        yield from ((root / index.path(image)).read_bytes() for image in images)
        return
    with root.open("rb") as archive:
        for image in images:
            start, size = index.span(image)
            archive.seek(start)
            yield archive.read(size)
