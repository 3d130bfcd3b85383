"""The report's files; each is written atomically."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meta_lr.files import write_atomically
from meta_lr.report.figures import Picture


@dataclass(frozen=True)
class Draft:
    """A report before it is written; `outcome` is for a terminal, `markdown` has all tables."""

    outcome: str
    markdown: str
    csv: str
    page: str
    pictures: tuple[Picture, ...]


def write_draft(draft: Draft, out: Path) -> Path:
    """Write the files of a report into `out`, the page last; return its path."""
    write_file(out / "table.md", draft.markdown.encode())
    write_file(out / "table.csv", draft.csv.encode())
    write_pictures(draft.pictures, out / "figures")
    page = out / "report.html"
    write_file(page, draft.page.encode())
    return page


def write_pictures(pictures: Sequence[Picture], folder: Path) -> None:
    """Write each figure twice: as PNG, and as scalable SVG."""
    for picture in pictures:
        write_file(folder / f"{picture.name}.svg", picture.svg.encode())
        write_file(folder / f"{picture.name}.png", picture.png)


def write_file(path: Path, content: bytes) -> None:
    """Write the file atomically; create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
