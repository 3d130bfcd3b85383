"""The report's files: each written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from meta_lr.report.figures import Picture


def write_pictures(pictures: Sequence[Picture], folder: Path) -> None:
    """Write each figure twice: to look at anywhere (PNG), and to scale (SVG)."""
    for picture in pictures:
        write_file(folder / f"{picture.name}.svg", picture.svg.encode())
        write_file(folder / f"{picture.name}.png", picture.png)


def write_file(path: Path, content: bytes) -> None:
    """Write the file beside its place, then move it there in one step; make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
