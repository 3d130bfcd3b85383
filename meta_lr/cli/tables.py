"""Tables for a terminal, drawn by rich."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text


class Column(NamedTuple):
    """A column of a table: text, or else numbers, which stand on the right.

    Attributes:
        heading: Of one line or more.
        cells: One per row.
        text: Whether it is text.
        least: Characters below which it is not folded; None: it is never folded.
    """

    heading: str
    cells: Sequence[str]
    text: bool = False
    least: int | None = None

    @property
    def width(self) -> int:
        """The characters that it takes unfolded, with a gap."""
        return max(map(cell_len, [*self.heading.split("\n"), *self.cells])) + 2

    @property
    def narrowest(self) -> int:
        """The characters that it takes at least, with a gap."""
        head = max(map(cell_len, self.heading.split("\n")))
        return self.width if self.least is None else min(self.width, max(self.least, head) + 2)


def drawn(columns: Sequence[Column], width: int) -> str:
    """Return a table of so many characters: long text is folded, numbers stay whole."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        justify = "left" if column.text else "right"
        least = column.narrowest - 2
        table.add_column(Text(column.heading), justify=justify, overflow="fold", min_width=least)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))
    text = io.StringIO()
    room = max(width, sum(column.narrowest for column in columns))  # no digit is lost
    Console(file=text, width=room, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())
