"""CSV that is safe in a spreadsheet: no text in it is read as a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

# A spreadsheet reads a cell that begins like this as a formula. A text that already begins with an
# apostrophe gets another one, so that `from_cell` can remove it.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_MARKED = re.compile("'" + _FORMULA.pattern)


def as_csv(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV; a text that looks like a formula gets an apostrophe in front."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [as_cell(value) for value in row]
        returns = any("\r" in str(cell) for cell in cells)  # which the first writer does not quote
        (quoted if returns else plain).writerow(cells)
    return text.getvalue()


def as_cell(value: object) -> object:
    """Return a value as a cell of a CSV file.

    >>> as_cell("=1+1"), as_cell("-0.5"), as_cell(-0.5)
    ("'=1+1", '-0.5', -0.5)
    """
    is_formula = isinstance(value, str) and _FORMULA.match(value) and not _is_number(value)
    return f"'{value}" if is_formula else value


def from_cell(cell: str) -> str:
    """Return the text of a cell; the inverse of `as_cell`."""
    return cell[1:] if _MARKED.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
