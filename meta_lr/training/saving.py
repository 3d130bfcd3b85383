"""The saved state of a run: it is written atomically, and loaded only by the same run."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from meta_lr.files import write_atomically
from meta_lr.records.writer import AGAIN

_LATER = ("data",)  # not in states of earlier versions; then not compared


def save_atomically(value: object, path: Path) -> None:
    """Save `value` with torch so that `path` holds either the old or the complete new content.

    Raises:
        OSError: It cannot be written, for example because the disk is full; the old content stays.
    """
    buffer = io.BytesIO()  # torch hides the system's reason if it writes to a file directly
    torch.save(value, buffer)
    write_atomically(path, buffer.getbuffer())


def load(path: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state saved at `path`, with its tensors on the CPU.

    Args:
        path: The file.
        like: What this run would save now. A valid state has the same "identity" and all its names.

    Raises:
        ValueError: The file is damaged, lacks a name, or is the state of another run.
        OSError: The file cannot be opened.
    """
    saved = _read(path)
    if not isinstance(saved, dict) or not isinstance(saved.get("identity"), dict):
        raise _damaged(path, "it is no state of a run")
    _refuse_other_run(path, saved["identity"], like["identity"])
    for name in like:
        if name not in saved:
            raise _damaged(path, f"it has no {name!r}")
        _refuse_other_type(path, name, saved[name], like[name])
    if type(saved.get("offset")) is not int or saved["offset"] < 0:
        raise _damaged(path, "it does not say how long the record was")
    return saved


def _read(path: Path) -> Any:
    with open(path, "rb") as file:
        try:
            broken = zipfile.ZipFile(file).testzip()  # torch does not check the checksums
            if broken is not None:
                raise zipfile.BadZipFile(f"the checksum of {broken} is wrong")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can raise errors of many kinds
            reason = shorten(str(error), 80, placeholder=" ...") or type(error).__name__
            raise _damaged(path, reason) from error


def _refuse_other_run(path: Path, came: Mapping[str, Any], needed: Mapping[str, Any]) -> None:
    for name, own in needed.items():
        if name in _LATER and came.get(name) is None:
            continue
        if not _equal(came.get(name), own):
            raise ValueError(
                f"{path.parent} holds a run with {name} {_short(came.get(name))}, not {own}; "
                "use another folder, or remove that one"
            )


def _equal(came: object, own: object) -> bool:
    try:
        return bool(came == own)
    except Exception:  # for example, a tensor with several elements
        return False


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 150 else f"{text[:147]}..."


def _refuse_other_type(path: Path, name: str, came: object, like: object) -> None:
    """Raise a ValueError if a value has another type than `like`; None accepts any type."""
    kind = next((kind for kind in (int | float, dict) if isinstance(like, kind)), type(like))
    if like is not None and not isinstance(came, kind):
        needed = type(like).__name__
        raise _damaged(path, f"its {name!r} is of type {type(came).__name__}, not {needed}")


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is damaged ({reason}); {AGAIN}")
