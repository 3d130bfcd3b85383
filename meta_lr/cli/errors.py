"""What went wrong in one line: what came, what is needed, what to do."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterable

_NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EFBIG: "the file may not grow any further"}


def one_line(error: BaseException) -> str:
    """Return the message of a user's mistake as one line."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{_NO_ROOM[error.errno]}; make room, and the same command goes on"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}"
    return " ".join(str(error).split()) or type(error).__name__


def explain_composition(error: Exception, command: str, known: Callable[[], Iterable[str]]) -> str:
    """Return one line for an error that Hydra or OmegaConf raised.

    Args:
        error: What was raised.
        command: The command whose config was composed, such as "train".
        known: Gives the dotted names of its options, to suggest one.
    """
    text = " ".join(str(error).split())
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if missing:
        group, name = missing.groups()
        options = ", ".join(sorted(getattr(error, "options", None) or [])) or "none"
        return f"unknown {group} '{name}'; choose one of: {options}"
    unknown = re.search(r"Could not (?:override|append|delete)[^']*'([^'=]+)", text)
    if unknown:
        key = unknown.group(1)
        close = difflib.get_close_matches(key, list(known()), n=1)
        guess = f"did you mean {close[0]}=?" if close else f"meta-lr {command} --help lists them"
        return f"unknown option '{key}' of {command}; {guess}"
    override = getattr(error, "override", None)
    if override is not None:
        return f"cannot read '{override}'; options are written key=value"
    several = re.search(r"Ambiguous value for argument '([^=]+)=(.+?)' 1\.", text)
    if several:
        key, values = several.groups()
        return f"{key}={values} is several values; -m runs a job for each, [{values}] is a list"
    unset = re.search(r"Missing mandatory value: (\S+)", text)
    if unset:
        return f"{unset.group(1)} is not set; pass {unset.group(1)}=..."
    return text


def explain_instantiation(error: Exception) -> str:
    """Return one line for a part that could not be built: its key, and what its maker said."""
    key = re.search(r"full_key: (\S+)", str(error))
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    said = one_line(cause)
    return f"{key.group(1)}: {said}" if key else said
