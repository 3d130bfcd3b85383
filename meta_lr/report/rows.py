"""Records read back as rows: where they lie, what they begin with, and their numbers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from meta_lr.training.rows import row_of, rows_from
from meta_lr.visible import visible

RECORDS = "records.jsonl"
FORMAT = 1
META_TRAINING = "plan"  # a field that only an episodic meta-training's header has
COUNTED = "num_"  # begins the names of counts of a controller's events, in the end row

Array: TypeAlias = NDArray[np.float64]
Row: TypeAlias = Mapping[str, Any]


def paths_of(folder: Path) -> list[Path]:
    """Return every record at or below `folder`, in order.

    Raises:
        ValueError: `folder` is no directory.
    """
    if not folder.is_dir():
        raise ValueError(f"'{folder}' is not a folder; pass the folder that holds the runs")
    return sorted(folder.rglob(RECORDS))


def digest_of(folder: Path) -> str:
    """Return a hash of the names and contents of every record at or below `folder`."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths_of(folder):
        content = path.read_bytes()
        digest.update(os.fsencode(path.relative_to(folder)) + b" %d " % len(content) + content)
    return digest.hexdigest()


def rows_of(path: Path) -> list[Row]:
    """Return a record's rows, the header first; a last line that was cut off is left out.

    No text in the header has control characters, so the report can show it anywhere.

    Raises:
        ValueError: A damaged line, no header, or a record of a newer format.
    """
    *lines, last = path.read_bytes().split(b"\n")
    rows: list[Row] = [row_of(path, at, line) for at, line in enumerate(lines, start=1)]
    with suppress(ValueError):  # no newline followed: the line may still be being written
        rows.append(row_of(path, len(lines) + 1, last))
    if rows:
        with rows_from(path):
            _check(path, rows[0])
        rows[0] = _shown(rows[0])
    return rows


def name_of(folder: Path, root: Path) -> str:
    """Return how the report calls a folder at or below `root`."""
    return visible(folder.relative_to(root).as_posix())


def number(row: Row, name: str, *, missing: float = float("nan")) -> float:
    """Read a number that may be null, absent, or one of the strings "nan", "inf", "-inf"."""
    value = row.get(name)
    return missing if value is None else float(value)


def column(rows: list[Row], name: str) -> Array:
    """Return a number of each row, (rows,)."""
    return np.array([number(row, name) for row in rows], dtype=np.float64)


def _shown(value: Any) -> Any:
    """Return what a header holds with all of its texts made visible."""
    if isinstance(value, Mapping):
        return {visible(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return visible(value) if isinstance(value, str) else value


def _check(path: Path, row: Row) -> None:
    if row["kind"] != "header":
        raise ValueError(f"'{path}' begins with a row '{row['kind']}'; the first must be a header")
    if row.get("format", FORMAT) > FORMAT:
        raise ValueError(
            f"'{path}' has format {row['format']}, this version reads up to {FORMAT}; "
            "install a newer meta_lr"
        )
