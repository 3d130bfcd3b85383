"""Numbers in a record's rows, and the folders that hold a record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from meta_lr.records.reader import records_below
from meta_lr.records.rows import Row
from meta_lr.visible import visible

Array: TypeAlias = NDArray[np.float64]


def folders_below(folder: Path) -> list[Path]:
    """Return each folder, at or below `folder`, that holds a record, in order.

    Raises:
        ValueError: `folder` is no directory.
    """
    if not folder.is_dir():
        raise ValueError(f"'{folder}' is not a folder; pass the folder that holds the runs")
    return [path.parent for path in records_below(folder)]


def name_of(folder: Path, root: Path) -> str:
    """Return the report's name for a folder at or below `root`."""
    return visible(folder.relative_to(root).as_posix())


def origin(header: Row) -> dict[str, object]:
    """Return commit, versions, hardware and threads of a run; None where they are not recorded."""
    versions = dict(header.get("versions") or {})
    told = {f"{name} version": text for name, text in versions.items()}
    rest = {name: header.get(name) for name in ("hardware", "threads")}
    return {"commit": header.get("commit"), **told, **rest}


def number(row: Mapping[str, Any], name: str, *, missing: float = float("nan")) -> float:
    """Return a number of a row; it may be null or absent."""
    value = row.get(name)
    return missing if value is None else float(value)


def column(rows: list[dict[str, Any]], name: str) -> Array:
    """Return a number of each row, (rows,)."""
    return np.array([number(row, name) for row in rows], dtype=np.float64)
