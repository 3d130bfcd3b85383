"""Locks: only one process at a time can work in a run's folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from meta_lr.files import READ_ONLY, take_lock
from meta_lr.records.reader import finished

LOCK = "lock"
_held: set[int] = set()  # the lock files that this process has open
NO_LOCKS = (
    "the file system of the run's folder has no locks (flock), so the run goes on without one; "
    "start no second process in the same folder"
)


class LockedError(RuntimeError):
    """Another process is working in the run's folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the run's folder for this process; the system unlocks it if the process dies.

    A finished run in a read-only folder is not locked, because it is only read. If the file system
    has no locks, there is a warning.

    Raises:
        LockedError: Another process has locked the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = _opened_lock(folder)
    if handle is None:
        yield
        return
    _held.add(handle)
    try:
        free = take_lock(handle)
        if free is False:
            owner = os.pread(handle, 20, 0).decode(errors="replace").strip() or "unknown"
            raise LockedError(
                f"{folder} is in use by process {owner}; wait for it, stop it, or run elsewhere"
            )
        if free is None:
            warnings.warn(NO_LOCKS, stacklevel=7)  # the caller of `train`
        _note_owner(handle)
        yield
    finally:
        _close(handle)


def _opened_lock(folder: Path) -> int | None:
    """Return the open lock file; None if the run is finished and nothing can be written there."""
    try:
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno in READ_ONLY and finished(folder):
            return None
        raise


def _close(handle: int) -> None:
    """Close a lock file, if this process has it."""
    if handle in _held:
        _held.remove(handle)
        os.close(handle)


def _leave_locks_to_the_parent() -> None:
    """Close the lock files in a new process: a worker must not hold the lock of a dead run."""
    for handle in [*_held]:
        _close(handle)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks_to_the_parent)


def _note_owner(handle: int) -> None:
    """Write this process's number into the lock file; the lock also works without the number."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
