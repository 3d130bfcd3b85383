"""The record of a run: one folder, one `records.jsonl`, one JSON object per line."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import torch

FORMAT = 1
NAME = "records.jsonl"

Row = dict[str, Any]


class LockedError(RuntimeError):
    """Another process is working in the run's folder."""


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of the record in `folder`; a last line that was cut off is left out.

    Raises:
        FileNotFoundError: There is no record.
    """
    rows = []
    with open(folder / NAME, encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                rows.append({key: _from_json(value) for key, value in json.loads(line).items()})
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


def provenance() -> Row:
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
        "hardware": _hardware(),
    }


class Recorder:
    """Appends rows to a record; knows how many bytes are safely there.

    Args:
        folder: The run's folder; made if missing.
        offset: Keep this many bytes of what is there, and cut the rest off: resume.
    """

    def __init__(self, folder: Path, offset: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = open(folder / NAME, "ab")
        self._file.truncate(offset)
        self._file.seek(offset)

    def write(self, rows: Sequence[Row]) -> None:
        """Append `rows` and hand them to the operating system."""
        text = "".join(
            json.dumps({k: _to_json(v) for k, v in row.items()}, separators=(",", ":")) + "\n"
            for row in rows
        )
        self._file.write(text.encode())
        self._file.flush()

    def sync(self) -> int:
        """Force what was written to the disk; return the record's length in bytes."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
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


def save_atomically(value: object, path: Path) -> None:
    """Save `value` with torch so that `path` holds the old content or all of the new."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def plain(config: Mapping[str, Any]) -> Row:
    """Return a header's fields with tensors as numbers and paths as strings."""
    return {k: str(v) if isinstance(v, Path) else _to_json(v) for k, v in config.items()}


def _to_json(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # "nan", "inf" or "-inf": JSON itself has no such numbers
    return value


def _from_json(value: Any) -> Any:
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


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
