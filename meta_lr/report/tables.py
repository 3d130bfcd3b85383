"""A table of text, and the formatting of its numbers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meta_lr.report.comparison import mean_and_spread
from meta_lr.report.outcomes import Metric

NONE = "-"
PLUS_MINUS = "\u00b1"


@dataclass(frozen=True)
class Table:
    """A caption, a note, and rows of text; the first column holds names, the rest values."""

    caption: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def of_columns(caption: str, note: str, columns: Mapping[str, Sequence[str]]) -> Table:
    """Return a table from its columns by heading, all of them of the same length."""
    return Table(caption, note, tuple(columns), tuple(zip(*columns.values(), strict=True)))


def to_markdown(table: Table) -> str:
    """Return the table as Markdown; its columns are also aligned in a terminal."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)]
    lines = _aligned(cells)
    return "\n".join([f"**{table.caption}**", "", *lines, "", textwrap.fill(table.note, 98), ""])


def to_terminal(table: Table, width: int = 100) -> str:
    """Write the first columns that fit, without those that say nothing, and no note."""
    columns = list(zip(table.columns, *table.rows, strict=True))
    names = tuple(textwrap.shorten(cell, width // 2, placeholder="...") for cell in columns[0])
    kept = [names, *(column for column in columns[1:] if set(column[1:]) - {NONE, "0"})]
    while len((lines := _aligned(list(zip(*kept, strict=True))))[0]) > width and len(kept) > 2:
        kept.pop()
    return "\n".join(lines)


def score(value: float, metric: Metric, *, sign: bool = False) -> str:
    """Write a value of the metric: accuracies in per cent, losses to four digits."""
    if math.isnan(value):
        return NONE
    plus = "+" if sign else ""
    if metric.name == "accuracy":
        return f"{100 * value:{plus}.2f}"
    return f"{value:{plus}.4g}"


def spread_score(values: Sequence[float], metric: Metric) -> str:
    """Write mean and standard deviation of values of the metric."""
    mean, spread = mean_and_spread(values)
    if math.isnan(spread):
        return score(mean, metric)
    within = score(spread, metric) if metric.name == "accuracy" else f"{spread:.2g}"
    return f"{score(mean, metric)} {PLUS_MINUS} {within}"


def amount(value: float) -> str:
    """Write a count, a cost or seconds: a whole number as such, else at least three digits."""
    if not math.isfinite(value):
        return NONE if math.isnan(value) else "never"
    if value == round(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def mean_amount(values: Sequence[float]) -> str:
    """Write the mean of some amounts."""
    return amount(mean_and_spread(values)[0])


def unit(metric: Metric) -> str:
    """Return the unit of the metric, for a column header."""
    return "accuracy %" if metric.name == "accuracy" else "loss"


def percent(metric: Metric) -> str:
    """Return the unit after a value of the metric in a sentence."""
    return " %" if metric.name == "accuracy" else ""


def count(n: int, noun: str) -> str:
    """Write a number with a noun; the argument is the noun's singular."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown; the first row of the cells is the head."""
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [_line(row, widths) for row in (cells[0], rule, *cells[1:])]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "| " + " | ".join([first, *rest]) + " |"
