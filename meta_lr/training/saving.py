"""The saved state of a run: written whole or not at all, and only given back to the same run."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch


def save_atomically(value: object, path: Path) -> None:
    """Save `value` with torch so that `path` holds the old content or all of the new.

    Raises:
        OSError: It cannot be written, say because the disk is full; the old content stays.
    """
    buffer = io.BytesIO()  # straight to a file, torch would hide the system's reason
    torch.save(value, buffer)
    write_atomically(buffer.getbuffer(), path)


def write_atomically(content: bytes | memoryview, path: Path) -> None:
    """Write `content` so that `path` holds the old content or all of the new, power cut or not.

    Raises:
        OSError: It cannot be written; the old content stays.
    """
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was saved at `path`, with its tensors on the CPU.

    Raises:
        ValueError: The file is damaged, or its `identity` is another.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise ValueError(
            f"{path} is damaged ({str(error).splitlines()[0]}); "
            "remove its folder, and the run begins anew"
        ) from None
    for name, own in identity.items():
        came = saved["identity"].get(name)
        if came != own:
            raise ValueError(
                f"{path.parent} holds a run with {name} {came}, not {own}; "
                "use another folder, or remove that one"
            )
    return saved
