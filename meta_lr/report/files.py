"""The report's files: each written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meta_lr.files import write_atomically
from meta_lr.report.figures import Picture


def write_pictures(pictures: Sequence[Picture], folder: Path) -> None:
    """Write each figure twice: to look at anywhere (PNG), and to scale (SVG)."""
    for picture in pictures:
        write_file(folder / f"{picture.name}.svg", picture.svg.encode())
        write_file(folder / f"{picture.name}.png", picture.png)


def write_file(path: Path, content: bytes) -> None:
    """Write the file atomically; make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
