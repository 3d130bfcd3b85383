"""The writer of records: a run's folder has one `records.jsonl`, with one JSON object per line."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from meta_lr.records.reader import NAME
from meta_lr.records.rows import Row

AGAIN = "remove the folder, and the run begins again"
_PIECE = 1 << 20  # bytes that are read at one time

Listener = Callable[[Row], None]


def check_start(folder: Path, length: int, hashed: str | None = None) -> Any:
    """Return the hash object of the first `length` bytes of the record in `folder`.

    Args:
        folder: The run's folder.
        length: Length in bytes.
        hashed: The expected hash, in hex. None is for a state of an earlier version without a hash;
            then only the length is checked.

    Raises:
        ValueError: The record is shorter, or its hash is different.
    """
    path, running = folder / NAME, hashlib.blake2b(digest_size=16)
    size = path.stat().st_size if path.exists() else 0
    if 0 < length <= size:
        with open(path, "rb") as file:
            while left := length - file.tell():
                running.update(file.read(min(left, _PIECE)))
    if length > size or hashed not in (None, running.hexdigest()):
        raise ValueError(f"{path} is not the record that the state beside it belongs to; {AGAIN}")
    return running


class Recorder:
    """Collects a run's rows, writes them to its record (if any), and calls a listener.

    Losses and angles stay tensors until a flush, so that recording a step does not wait for the
    device.

    Args:
        listener: Called with each kept row, in order, at a flush.
        every: Keep each n-th step; for the other steps, the loss is only checked.
    """

    def __init__(self, listener: Listener, *, every: int = 1) -> None:
        self._listener, self._every = listener, every
        self._rows: list[Row] = []
        self._file: IO[bytes] | None = None
        self._hash = hashlib.blake2b(digest_size=16)  # of the whole content of the file

    def open(self, folder: Path, offset: int = 0, hashed: str | None = None) -> None:
        """Append to the record in `folder`, after its first `offset` bytes; the rest is cut off.

        Raises:
            ValueError: The record is shorter, or the hash of these bytes is not `hashed`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._hash = check_start(folder, offset, hashed)
        self._file = open(folder / NAME, "ab")
        self._file.truncate(offset)
        self._file.seek(offset)

    def add(self, row: Row) -> None:
        """Add a row; it is written at the next flush."""
        self._rows.append(row)

    def flush(self) -> int | None:
        """Write the pending rows; return the first step whose loss is not finite, if any.

        Rows from that step on are dropped.
        """
        rows, self._rows = _on_host(self._rows), []
        bad = next((i for i, row in enumerate(rows) if _diverged(row)), None)
        kept = [row for row in rows[:bad] if not self._skips(row)]
        if self._file is not None:
            lines = [json.dumps(_to_json(row), separators=(",", ":")) + "\n" for row in kept]
            content = "".join(lines).encode()
            self._file.write(content)
            self._file.flush()
            self._hash.update(content)
        for row in kept:
            self._listener(row)
        return None if bad is None else rows[bad]["step"]

    def _skips(self, row: Row) -> bool:
        return row["kind"] == "step" and row["step"] % self._every != 0

    def sync(self) -> Row:
        """Force the written data to the disk; return its length and hash, for the saved state."""
        if self._file is None:
            return {"offset": 0, "record": None}
        os.fsync(self._file.fileno())
        return {"offset": self._file.tell(), "record": self._hash.hexdigest()}

    def close(self) -> None:
        """Close the record."""
        if self._file is not None:
            self._file.close()


def _on_host(rows: list[Row]) -> list[Row]:
    """Return the rows with tensors replaced by numbers; the host waits once for each name."""
    for name in ("loss", "angle"):
        waiting = [row for row in rows if isinstance(row.get(name), torch.Tensor)]
        numbers = torch.stack([row[name] for row in waiting]).tolist() if waiting else []
        for row, number in zip(waiting, numbers, strict=True):
            row[name] = number
    return rows


def _diverged(row: Row) -> bool:
    return row["kind"] == "step" and not math.isfinite(row["loss"])


def _to_json(value: Any) -> Any:
    """Return `value` with paths and non-finite numbers as strings; JSON has neither."""
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, Path) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value
