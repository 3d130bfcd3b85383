"""How much a command prints at its end: one table in 100 columns, or with `--full` all there is.

Tables are drawn by rich, which is imported with the first of them.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import NamedTuple

WIDTH = 100
_WIDEST = 10_000  # in a file nothing is folded or left out
_full: list[bool] = []  # of the commands that are running, the innermost last


@contextmanager
def shown_in_full(full: bool) -> Iterator[None]:
    """Let everything that is printed inside be whole, or not."""
    _full.append(full)
    try:
        yield
    finally:
        _full.pop()


def in_full() -> bool:
    """Return whether `--full` was given."""
    return bool(_full and _full[-1])


def width() -> int:
    """Return the columns of a table."""
    terminal = get_terminal_size().columns if sys.stdout.isatty() else _WIDEST
    return terminal if in_full() else min(terminal, WIDTH)


def end_of(outcome: str, tables: str) -> str:
    """Return what a command prints of its report."""
    return tables if in_full() else f"{outcome}\n--full prints all tables, and what they mean"


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
        from rich.cells import cell_len

        return max(map(cell_len, [*self.heading.split("\n"), *self.cells])) + 2

    @property
    def narrowest(self) -> int:
        """The characters that it takes at least, with a gap."""
        from rich.cells import cell_len

        head = max(map(cell_len, self.heading.split("\n")))
        return self.width if self.least is None else min(self.width, max(self.least, head) + 2)


def drawn(columns: Sequence[Column], width: int) -> str:
    """Return a table of so many characters: long text is folded, numbers stay whole."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

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
