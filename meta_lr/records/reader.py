"""The reader of records: their rows, by kind. An error names the damaged line."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from meta_lr.records.rows import META_TRAINING, Row, is_on_curve
from meta_lr.visible import visible

FORMAT = 1
NAME = "records.jsonl"
_ADVICE = "remove the run, or mend it"
_NOT_FINITE = ("nan", "inf", "-inf")  # as the writer writes them, because JSON has no such numbers


@dataclass(frozen=True)
class Record:
    """The rows of one run.

    Attributes:
        rows: The rows in order, the header first. Empty if the run has just begun.
    """

    rows: Sequence[Row]

    @property
    def header(self) -> Row:
        """The first row; empty if there is none yet."""
        return self.rows[0] if self.rows else {}

    @property
    def end(self) -> Row:
        """The last row of a run that ended; else empty."""
        return self.rows[-1] if self.rows and self.rows[-1]["kind"] == "end" else {}

    @property
    def steps(self) -> list[Row]:
        """The recorded steps."""
        return self._of("step")

    @property
    def searches(self) -> list[Row]:
        """The controller's reports of its experiments."""
        return self._of("search")

    @property
    def angles(self) -> list[Row]:
        """The angles between changes of the mean weights."""
        return self._of("angle")

    @property
    def evaluations(self) -> list[Row]:
        """All passes over a split."""
        return self._of("eval")

    @property
    def curve(self) -> list[Row]:
        """The evaluations on "val" during training."""
        return [row for row in self.evaluations if is_on_curve(row)]

    @property
    def updates(self) -> list[Row]:
        """The updates of phi."""
        return self._of("update")

    @property
    def held_out(self) -> list[Row]:
        """The evaluations of phi on the held-out problems."""
        return self._of("held_out")

    @property
    def is_meta_training(self) -> bool:
        """Whether this is an episodic meta-training, not a single run."""
        return META_TRAINING in self.header

    def _of(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row["kind"] == kind]


def records_below(folder: Path) -> list[Path]:
    """Return every record at or below `folder`, in order."""
    return sorted(folder.rglob(NAME))


def digest_of(folder: Path) -> str:
    """Return a hash of the names and contents of every record at or below `folder`."""
    digest = hashlib.blake2b(digest_size=16)
    for path in records_below(folder):
        content = path.read_bytes()
        digest.update(os.fsencode(path.relative_to(folder)) + b" %d " % len(content) + content)
    return digest.hexdigest()


def read_record(folder: Path) -> Record:
    """Return the record in `folder`.

    A last line that was cut off is left out. Numbers that are not finite become floats again.
    Hidden characters in texts become escapes, so that a text can be shown anywhere.

    Raises:
        FileNotFoundError: There is no record.
        ValueError: A line is damaged, the first row is no header, or the format is a newer one.
    """
    rows, path = list[Row](), folder / NAME
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.endswith(b"\n"):
                row = _row(path, number, line)
                rows.append({visible(key): _value(value) for key, value in row.items()})
    if rows:
        with rows_from(path):
            _check_header(path, rows[0])
    return Record(rows)


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of the record in `folder`; see `read_record`."""
    return list(read_record(folder).rows)


def finished(folder: Path) -> bool:
    """Return whether the record in `folder` has its end row."""
    try:
        with open(folder / NAME, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            tail = file.read()
    except FileNotFoundError:
        return False
    return tail.endswith(b"\n") and b'{"kind":"end"' in tail[tail.rstrip(b"\n").rfind(b"\n") + 1 :]


@contextmanager
def rows_from(path: Path) -> Iterator[None]:
    """Turn errors from rows with a missing field or a wrong type into an error of one line.

    Raises:
        ValueError: The message names the record at `path`. An error that already names its folder
            does not change.
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


def _row(path: Path, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
        raise ValueError(
            f"{path}, line {number} is damaged: it is no JSON object with a kind; {_ADVICE}"
        )
    return row


def _check_header(path: Path, row: Row) -> None:
    if row["kind"] != "header":
        raise ValueError(f"'{path}' begins with a row '{row['kind']}'; the first must be a header")
    if row.get("format", FORMAT) > FORMAT:
        raise ValueError(
            f"'{path}' has format {row['format']}, this version reads up to {FORMAT}; "
            "install a newer meta_lr"
        )


def _value(value: Any) -> Any:
    """Return the original value of a written field."""
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, str) and value in _NOT_FINITE:
        return float(value)
    return _shown(value)


def _shown(value: Any) -> Any:
    """Return the value of a field with all hidden characters in its texts made visible."""
    if isinstance(value, Mapping):
        return {visible(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return visible(value) if isinstance(value, str) else value
