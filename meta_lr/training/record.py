"""The record of a run: one folder, one `records.jsonl`, one JSON object per line."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import torch

from meta_lr.training.rows import Row, row_of
from meta_lr.training.saving import AGAIN

FORMAT = 1
NAME = "records.jsonl"
_PIECE = 1 << 20  # bytes that are read at one time

Listener = Callable[[Row], None]


class LockedError(RuntimeError):
    """Another process is working in the run's folder."""


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of the record in `folder`; a last line that was cut off is left out.

    Raises:
        FileNotFoundError: There is no record.
        ValueError: A line is damaged; the message has its number.
    """
    rows, path = [], folder / NAME
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.endswith(b"\n"):
                row = row_of(path, number, line)
                rows.append({key: _from_json(value) for key, value in row.items()})
    return rows


def finished(folder: Path) -> bool:
    """Return whether the record in `folder` has its end row."""
    try:
        with open(folder / NAME, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            tail = file.read()
    except FileNotFoundError:
        return False
    return tail.endswith(b"\n") and b'{"kind":"end"' in tail[tail.rstrip(b"\n").rfind(b"\n") + 1 :]


def check_start(folder: Path, length: int, hashed: str | None = None) -> Any:
    """Return the hash object of the first `length` bytes of the record in `folder`.

    Args:
        folder: The run's.
        length: In bytes.
        hashed: What the hash must be, in hex; None for a state of an earlier version, which does
            not say it: then the length alone is checked.

    Raises:
        ValueError: The record is shorter, or its hash is another.
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


def provenance(device: torch.device) -> Row:
    """Return what a result depends on besides its configuration, for the header."""
    return {
        "format": FORMAT,
        "commit": _commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "meta_lr": _own_version(),
        },
        "threads": torch.get_num_threads(),
        "hardware": _hardware(device),
    }


class Recorder:
    """Collects a run's rows; writes them to its record, if it has one, and tells a listener.

    Losses and angles stay tensors until a flush, so that recording a step waits for nothing.

    Args:
        listener: Called with each row that is kept, in order, at a flush.
        every: Keep each n-th step; the losses of the others are only looked at.
    """

    def __init__(self, listener: Listener, *, every: int = 1) -> None:
        self._listener, self._every = listener, every
        self._rows: list[Row] = []
        self._file: IO[bytes] | None = None
        self._hash = hashlib.blake2b(digest_size=16)  # of all that the file holds

    def open(self, folder: Path, offset: int = 0, hashed: str | None = None) -> None:
        """Append to the record in `folder`, of which the first `offset` bytes are kept.

        Raises:
            ValueError: There is less than that, or their hash is not `hashed`.
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
        """Write the rows that wait; return the first step whose loss is not finite, if any.

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
        """Force what was written to the disk; return its length and hash, which a state keeps."""
        if self._file is None:
            return {"offset": 0, "record": None}
        os.fsync(self._file.fileno())
        return {"offset": self._file.tell(), "record": self._hash.hexdigest()}

    def close(self) -> None:
        """Close the record."""
        if self._file is not None:
            self._file.close()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder for this process; the system lets go of it if the process dies.

    Raises:
        LockedError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+", encoding="utf-8") as file:
        if not _try_lock(file):
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise LockedError(
                f"{folder} is in use by process {owner}; wait for it, stop it, or run elsewhere"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _on_host(rows: list[Row]) -> list[Row]:
    """Return the rows with numbers for what is still tensors; the host waits once for each name."""
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


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _try_lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # no such lock on this system: runs are on their honour
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _own_version() -> str | None:
    try:
        return version("meta_lr")
    except PackageNotFoundError:
        return None


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
