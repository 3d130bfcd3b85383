"""Where an explanation goes: a folder, and a section on the card of a checkpoint of one's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meta_lr.explain.loss_schedule import Array
    from meta_lr.report.figures import Picture

BEGIN, END = "<!-- meta-lr explain: begin -->", "<!-- meta-lr explain: end -->"
OUT = "explain"
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the run, at which tables show the learning rate


@dataclass(frozen=True)
class Place:
    """Where to write.

    Attributes:
        out: The folder of the figure.
        card: The card that gets a section; None if it stays as it is.
    """

    out: Path
    card: Path | None

    def explained(self, section: str) -> str:
        """Return the text of the card with the section; "" if no card is to be written."""
        if self.card is None:
            return ""
        before = self.card.read_bytes().decode() if self.card.is_file() else ""
        return with_section(before, section, self.card)


def place_of(name: str, card: Path, out: Path | None) -> Place:
    """Return where the explanation of a checkpoint goes.

    A folder of the user's own has it beside its card, and on it, unless `out` says otherwise. The
    card of a checkpoint that was installed or fetched, or cannot be written, is not the user's.
    """
    if out is not None:
        return Place(out, None)
    if Path(name).is_dir() and os.access(card.parent, os.W_OK):
        return Place(card.parent / OUT, card)
    return Place(Path(OUT, _short(name)), None)


def _short(name: str) -> str:
    """Return the name of a checkpoint that is not the user's, as a folder's."""
    return Path(name).resolve().name if Path(name).is_dir() else name.removeprefix("hub:")


def with_section(card: str, section: str, path: Path) -> str:
    """Return the card's text with `section` in place of the one before, else at its end.

    Raises:
        ValueError: Only one of the two comments around the section is there; `path` names the card.
    """
    start, end = card.find(BEGIN), card.find(END)
    if start == end == -1:
        gap = "" if not card else "\n" if card.endswith("\n") else "\n\n"
        return f"{card}{gap}{section}\n"
    if start == -1 or end < start:
        raise ValueError(
            f"{path} has lost one of the comments '{BEGIN}' and '{END}', or their order; "
            "remove the other one and what explain wrote"
        )
    return card[:start] + section + card[end + len(END) :]


def section(picture: Picture, text: str) -> str:
    """Return the section of a card, in Markdown: the figure, and the text below it."""
    figure = f"![{picture.caption}]({OUT}/{picture.name}.png)"
    return "\n\n".join([BEGIN, "## What it does, replayed", figure, text, END])


def write(place: Place, picture: Picture, text: str) -> None:
    """Write the figure, and the text of the card if there is one; say where they are."""
    from meta_lr.report.files import write_file, write_pictures

    write_pictures([picture], place.out)
    if place.card is not None:
        write_file(place.card, text.encode())
    also = f"; also on the card, {place.card}" if place.card is not None else ""
    print(f"figure: {place.out / picture.name}.svg, .png{also}")


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; its first row is the header."""
    head, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *others])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:{w}}" for cell, w in zip(r, widths, strict=True)) for r in rows)
    return "\n".join(line.rstrip() for line in lines)


def percent(share: float) -> str:
    """Write a part of something: two digits."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def header_of_parts(first: str) -> list[str]:
    """Return the header of a table that shows curves at `PARTS` of the run."""
    return [first, *(f"{part:.0%}".replace("%", " %") for part in PARTS)]


def at_parts(curve: Array) -> list[str]:
    """Return a curve (steps,) at `PARTS` of the run."""
    return [f"{curve[round(part * (len(curve) - 1))]:.4g}" for part in PARTS]
