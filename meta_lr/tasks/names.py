"""The name of a task that reads a file or a folder."""

from __future__ import annotations

import os
from pathlib import Path


def name_of(path: str | os.PathLike[str]) -> str:
    """Return the last part of a path up to its first dot, as text that any file can hold.

    Bytes that are not UTF-8 become U+FFFD.
    """
    name = Path(os.path.abspath(path)).name.lstrip(".").split(".")[0]
    return os.fsencode(name).decode("utf-8", errors="replace")
