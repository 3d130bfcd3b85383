"""One line of a record: a JSON object with a kind. What is no such line is named by its number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

Row = dict[str, Any]

_ADVICE = "remove the run, or mend it"


def row_of(path: Path, number: int, line: bytes) -> Row:
    """Return the row that a line of the record at `path` holds.

    Args:
        path: Of the record, for the message.
        number: Of the line, from 1, for the message.
        line: Its bytes.

    Raises:
        ValueError: The line is no JSON object with a text as its "kind".
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
        raise ValueError(
            f"{path}, line {number} is damaged: it is no JSON object with a kind; {_ADVICE}"
        )
    return row


def is_on_curve(row: Row) -> bool:
    """Return whether a row is an evaluation on "val" of the weights at that step."""
    return row.get("split") == "val" and row.get("weights", "current") == "current"


@contextmanager
def rows_from(path: Path) -> Iterator[None]:
    """Turn what rows without a field, or with a field of another type, lead to into one line.

    Raises:
        ValueError: It names the record at `path`; one that already names its folder is passed on.
    """
    try:
        yield
    except KeyError as missing:
        raise ValueError(f"{path} lacks {missing}; {_ADVICE}") from missing
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        if str(path.parent) in str(error):
            raise
        reason = shorten(str(error), 160, placeholder=" ...")
        raise ValueError(f"{path} is damaged ({reason}); {_ADVICE}") from error
