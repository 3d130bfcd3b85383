"""Results as CSV and JSON files: written and read with every field, at full precision."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from meta_lr.csv_text import as_csv, from_cell
from meta_lr.files import write_atomically
from meta_lr.json_text import parse_json
from meta_lr.lrbench.result import KINDS, Result

FORMAT = 1


def write(results: Sequence[Result], path: Path) -> None:
    """Write results to a .csv or .json file, atomically.

    Raises:
        ValueError: The file name has another suffix.
    """
    text = {"csv": to_csv, "json": to_json}[_kind(path)](results)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())


def read(path: Path) -> list[Result]:
    """Return the results in a file that `write` wrote.

    Raises:
        ValueError: The file name has another suffix, or the file holds something else.
        OSError: The file cannot be read.
    """
    kind = _kind(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # a spreadsheet may add a byte-order mark
        return _from_csv(text, path) if kind == "csv" else _from_json(text, path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def to_csv(results: Sequence[Result]) -> str:
    """Return results as CSV, one row each; unknown cells are empty; the curve is JSON."""
    rows = ([_cell(getattr(result, name)) for name in KINDS] for result in results)
    return as_csv([list(KINDS), *rows])


def to_json(results: Sequence[Result]) -> str:
    """Return results as JSON: a format, and an object for each result; unknown values are null."""
    rows = [{name: getattr(result, name) for name in KINDS} for result in results]
    return json.dumps({"format": FORMAT, "results": rows}, indent=1) + "\n"


def _from_csv(text: str, path: Path) -> list[Result]:
    limit = csv.field_size_limit(sys.maxsize)  # a long curve exceeds the usual limit
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    finally:
        csv.field_size_limit(limit)
    values = ({name: _value(name, cell) for name, cell in row.items()} for row in rows)
    return [_result(row, f"{path}, row {at}") for at, row in enumerate(values, start=1)]


def _from_json(text: str, path: Path) -> list[Result]:
    try:
        content = parse_json(text)
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict) or not isinstance(content.get("results"), list):
        raise ValueError(f'{path} holds no results; needed is {{"format": 1, "results": [...]}}')
    if content.get("format", FORMAT) != FORMAT:
        raise ValueError(
            f"{path} has format {content['format']}, this meta_lr reads {FORMAT}; "
            "install a newer meta_lr"
        )
    rows = enumerate(content["results"], start=1)
    return [_result(row, f"{path}, result {at}") for at, row in rows]


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged, or no {path.suffix[1:].upper()} ({error})")


def _kind(path: Path) -> str:
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("csv", "json"):
        raise ValueError(f"{path} is neither .csv nor .json; name the file so")
    return kind


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return json.dumps(value)
    return "" if value is None else value if isinstance(value, str) else repr(value)


def _value(name: str, cell: str | None) -> Any:
    """Return a cell as its field's type; an invalid cell stays as it is and is refused later."""
    kind = KINDS.get(name, "str")
    if kind == "str":
        return from_cell(cell) if isinstance(cell, str) else cell
    if not cell:
        return () if kind.startswith("tuple") else None
    try:
        return {"int": int, "float": float, "float | None": float}.get(kind, parse_json)(cell)
    except ValueError:
        return cell


def _result(row: object, where: str) -> Result:
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} is no object with the fields of a result")
    needed = [field.name for field in fields(Result) if field.default is MISSING]
    unknown = [str(name) for name in row if name not in KINDS]
    missing = [name for name in needed if name not in row]
    if unknown or missing:
        wrong = f"has {unknown[0]}, which is no field" if unknown else f"lacks {missing[0]}"
        raise ValueError(f"{where} {wrong} of a result; needed are at least {', '.join(needed)}")
    try:
        return Result(**row)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error
