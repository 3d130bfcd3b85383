"""Files on disk: atomic replacement, and locks that one process holds at a time."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}  # reasons why a file cannot be written
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


def write_atomically(path: Path, *pieces: bytes | memoryview) -> None:
    """Replace the file at `path` with `pieces`, one after the other.

    After a kill or a power cut, `path` holds either the old content or the complete new content.
    The new content is first written to a temporary file in the same folder. Temporary files that
    killed processes left in the folder are removed.

    Raises:
        OSError: The file cannot be written; the old content stays.
    """
    try:
        _remove_abandoned(path.parent)
        handle, partial = _new_file(path.parent)
        try:
            with open(handle, "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
                os.replace(partial, path)  # while the file is open, and therefore locked
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        error.filename = str(path)  # the user does not know the temporary file
        raise


def take_lock(handle: int) -> bool | None:
    """Lock an open file until it is closed; the system unlocks it when the process dies.

    Returns:
        Whether the lock was free; None if there are no locks on this file system.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _new_file(folder: Path) -> tuple[int, Path]:
    """Create a new file, locked by this process; return its handle and its path."""
    while True:
        path = folder / f".meta_lr-{secrets.token_hex(4)}.partial"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if take_lock(handle) is not False and path.exists():
            return handle, path
        os.close(handle)  # another process locked it first, to remove it


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of dead processes: no process holds their locks."""
    for path in folder.glob(".meta_lr-*.partial"):
        with suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if take_lock(handle):
                    path.unlink()
            finally:
                os.close(handle)
