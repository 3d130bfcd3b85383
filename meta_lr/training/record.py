"""The record of a run: one folder, one `records.jsonl`, one JSON object per line."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import torch

from meta_lr.files import READ_ONLY, take_lock
from meta_lr.training.rows import Row, row_of
from meta_lr.training.saving import AGAIN
from meta_lr.visible import visible

FORMAT = 1
NAME = "records.jsonl"
LOCK = "lock"
NO_LOCKS = (
    "the file system of the run's folder has no locks (flock), so the run goes on without one; "
    "start no second process in the same folder"
)
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

    A finished run in a folder that cannot be written is not locked: it is only read. Where the file
    system has no locks, a warning says so.

    Raises:
        LockedError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = _opened_lock(folder)
    if handle is None:
        yield
        return
    try:
        free = take_lock(handle)
        if free is False:
            owner = os.pread(handle, 20, 0).decode(errors="replace").strip() or "unknown"
            raise LockedError(
                f"{folder} is in use by process {owner}; wait for it, stop it, or run elsewhere"
            )
        if free is None:
            warnings.warn(NO_LOCKS, stacklevel=4)  # the caller of `train`
        _note_owner(handle)
        yield
    finally:
        os.close(handle)


def _opened_lock(folder: Path) -> int | None:
    """Return the open lock file; None if the run is finished and nothing can be written there."""
    try:
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno in READ_ONLY and finished(folder):
            return None
        raise


def _note_owner(handle: int) -> None:
    """Write this process's number into the lock file; on a full disk the lock holds without it."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)


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
    if isinstance(value, str):
        return float(value) if value in ("nan", "inf", "-inf") else visible(value)
    return value


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
