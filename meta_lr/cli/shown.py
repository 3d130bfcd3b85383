"""How much a command prints at its end: one table in 100 columns, or with `--full` all there is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import get_terminal_size

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
