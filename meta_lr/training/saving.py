"""The saved state of a run: written whole or not at all, and only given back to the same run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from meta_lr.files import write_atomically


def save_atomically(value: object, path: Path) -> None:
    """Save `value` with torch so that `path` holds the old content or all of the new.

    Raises:
        OSError: It cannot be written, say because the disk is full; the old content stays.
    """
    buffer = io.BytesIO()  # straight to a file, torch would hide the system's reason
    torch.save(value, buffer)
    write_atomically(path, buffer.getbuffer())


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
