"""What went wrong in one line: what came, what is needed, what to do."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Sequence

from meta_lr.visible import visible

_NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EFBIG: "the file may not grow any further"}
# What torch says, on a CPU and on a GPU, where a tensor does not fit into the memory.
_NO_MEMORY = re.compile(r"can't allocate memory|out of memory|[Ss]torage size|numel: integer mult")
_LONGEST = 160  # characters of one word in a message; beyond it the middle is left out


def one_line(error: BaseException) -> str:
    """Return the message of a user's mistake as one line, without control characters."""
    return visible(_message(error))


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{_NO_ROOM[error.errno]}; make room, and the same command goes on"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return _shortened(f"{error.filename}: {error.strerror.lower()}")
    if is_no_memory(error):
        wanted = re.search(r"allocate ([\d.]+ ?\w+)", str(error))
        tried = f" for {wanted[1]}" if wanted else ""
        return f"there is not enough memory{tried}; take a smaller model, or smaller batches"
    if is_too_large(error):
        return "a number is too large for the network's weights; make it smaller"
    return _shortened(" ".join(str(error).split())) or type(error).__name__


def is_no_memory(error: BaseException) -> bool:
    """Return whether the memory, of the CPU or of a GPU, was too small."""
    told = isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
    return told or isinstance(error, MemoryError)


def is_too_large(error: BaseException) -> bool:
    """Return whether torch refused a number that does not fit into the type of the weights."""
    return isinstance(error, RuntimeError) and "without overflow" in str(error)


def did_you_mean(name: str, names: Iterable[str], form: str = "{}") -> str:
    """Return a question about the closest of `names`, each written as `form`; "" without one."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {form.format(close[0])}?" if close else ""


def unknown_choice(group: str, name: str, names: Sequence[str]) -> str:
    """Return one line for a name that a group of config files does not have."""
    listed = ", ".join(names) or "none"
    if len(listed) > _LONGEST:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        guess = f"did you mean {' or '.join(close)}? " if close else ""
        return _shortened(f"unknown {group} '{name}'; {guess}--help lists all {len(names)}")
    return _shortened(f"unknown {group} '{name}'; choose one of: {listed}")


def of_hydra(error: Exception) -> str:
    """Return one line for what Hydra or OmegaConf raised: the option in front, if it names one."""
    said, _, place = str(error).partition("full_key: ")
    key = place.split()[0] if place else ""
    return _shortened(" ".join(f"{f'{key}: ' if key else ''}{said}".split()))


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


def _shortened(text: str) -> str:
    """Return `text` with the middle of very long words left out."""
    return re.sub(rf"\S{{{_LONGEST},}}", lambda m: f"{m[0][:100]}...{m[0][-40:]}", text)
