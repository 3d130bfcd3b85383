"""What went wrong in one line: what came, what is needed, what to do."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterable

from meta_lr.visible import visible

_NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EFBIG: "the file may not grow any further"}


def one_line(error: BaseException) -> str:
    """Return the message of a user's mistake as one line, without control characters."""
    return visible(_message(error))


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{_NO_ROOM[error.errno]}; make room, and the same command goes on"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}"
    return " ".join(str(error).split()) or type(error).__name__


def explain_composition(
    error: Exception,
    command: str,
    known: Callable[[], Iterable[str]],
    comment: Callable[[str], str],
) -> str:
    """Return one line for an error that Hydra or OmegaConf raised.

    Args:
        error: What was raised.
        command: The command whose config was composed, such as "train".
        known: Gives the dotted names of its options, to suggest one.
        comment: Gives what the config files say of an option.
    """
    text = " ".join(str(error).split())
    missing = re.search(r"Could not find '([^']+)/([^'/]*)'", text)
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
        key = unset.group(1)
        said = comment(key)
        return f"{key} is not set; pass {key}=..." + (f", {said}" if said else "")
    absent = re.search(r"Key '(\w+)' is not in struct", text)
    return f"{absent.group(1)} was left out, and {command} needs it" if absent else text


def explain_instantiation(error: Exception, own: Iterable[str]) -> str:
    """Return one line for a part that could not be built: its key, and what its maker said.

    Args:
        error: What was raised.
        own: Names of the part's options; where its maker says `val_size=9`, the user is told
            `task.val_size=9`, which is what to type.
    """
    key = re.search(r"full_key: (\S+)", str(error))
    cause: BaseException = error
    while type(cause) is type(error) and cause.__cause__ is not None:
        cause = cause.__cause__
    said = one_line(cause)
    if key is None:
        return said
    # what is in brackets may be Python: Constant(peak=-1)
    options = re.compile(rf"\([^()]*\)|(?<![\w.])(?:{'|'.join(own)})=")
    said = options.sub(lambda m: m[0] if m[0][0] == "(" else f"{key.group(1)}.{m[0]}", said)
    return f"{key.group(1)}: {said}"
