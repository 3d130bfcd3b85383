"""The `key=value` arguments of a command: ordinary text is read as it is typed.

Hydra's grammar refuses an unquoted accent, `~` or parenthesis. Where such a value can only be text,
it is quoted here; where it could mean two things, the error shows the quoted form.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError

from meta_lr.cli.arguments import flags_last, overrides_of
from meta_lr.cli.errors import unknown_choice
from meta_lr.cli.places import choices


def readable(arguments: Sequence[str]) -> list[str]:
    """Return the arguments as Hydra reads them, the flags last; text that it cannot read is quoted.

    Raises:
        ValueError: An argument is no override, it could mean two things, or it names no value.
    """
    ordered = flags_last(arguments)
    overrides = overrides_of(arguments)
    read = [_readable(overrides, index) for index in range(len(overrides))]
    return [*read, *ordered[len(overrides) :]]


def parsed(override: str) -> Override | None:
    """Return what Hydra makes of an override; None if it cannot read it."""
    try:
        return _parser().parse_override(override)
    except HydraException:
        return None


def quoted(text: str) -> str:
    """Return `text` in the quotes that Hydra wants, and every character in it as it is."""
    return QuotedString(text, Quote.double).with_quotes()


def typed(key: str, text: str) -> str:
    """Return what to type in a shell to set `key` to `text`, such as 'task.path="ü.txt"'."""
    return shlex.quote(f"{key}={quoted(text)}")


def _readable(overrides: Sequence[str], index: int) -> str:
    override = overrides[index]
    key, equals, value = override.partition("=")
    found = parsed(override)
    if found is not None and found.key_or_group:
        _refuse_without_value(found)
        return override
    if not equals or not key or parsed(f"{key}=0") is None:
        raise ValueError(f"cannot read '{override}'; {_blank_hint(overrides, index)}")
    if "${" in value and not _interpolates(value):
        raise ValueError(f"cannot read '{override}'; an interpolation is written ${{NAME}}")
    if not _is_text(value):
        raise ValueError(f"cannot read '{override}'; {_quote_hint(overrides[index:])}")
    home = os.path.expanduser(value) if value.startswith("~/") else value
    return f"{key}={quoted(home)}"


def _is_text(value: str) -> bool:
    """Return whether a value that Hydra cannot read can only be text."""
    call = re.match(r"(\w+)\s*\(", value)
    known = call is not None and call[1] in create_functions().functions
    return not known and value[:1] not in tuple("[{'\"") and not re.search(r"[,\\]", value)


def _interpolates(value: str) -> bool:
    try:
        OmegaConf.create({"value": value})
    except GrammarParseError:
        return False
    return True


def _blank_hint(overrides: Sequence[str], index: int) -> str:
    """Return what to do about an argument that is no key=value, perhaps one half of a value."""
    before = overrides[index - 1] if index else ""
    if "=" not in before or "=" in overrides[index]:
        return "options are written key=value"
    whole = shlex.quote(f"{before} {overrides[index]}")
    return f"options are written key=value; quote a value with blanks: {whole}"


def _quote_hint(overrides: Sequence[str]) -> str:
    """Return how to quote the first of these overrides."""
    key, _, value = overrides[0].partition("=")
    several = re.sub(r"[^\[\]{},:'\"]+", lambda run: _quoted_if_needed(run[0]), value)
    wholes = (" ".join(overrides[:count]) for count in range(1, len(overrides) + 1))
    if value[:1] in ("[", "{"):
        candidates = (*wholes, f"{key}={several}")
        readable = [text for text in candidates if parsed(text) is not None]
        if not readable:
            return "a bracket or a quotation mark is missing"
        return f"quote it: {shlex.quote(readable[0])}"
    if "," in value and parsed(f"{key}={several}") is not None:
        both = shlex.quote(f"{key}={several}")
        return f"as one text it is {typed(key, value)}, as several values {both}"
    return f"as a text it is {typed(key, value)}"


def _quoted_if_needed(element: str) -> str:
    bare = element.strip()
    return quoted(bare) if bare and parsed(f"key={bare}") is None else element


def _refuse_without_value(override: Override) -> None:
    """Raise a ValueError for a choice that is no name, and for a sweep over nothing."""
    group = override.key_or_group
    names = choices(group)
    for value in _values(override):
        if group == "hydra" and not isinstance(value, dict):
            raise ValueError(
                f"{override.input_line}; hydra has options of its own, such as hydra.run.dir=FOLDER"
            )
        for name in value if isinstance(value, list) and value else [value]:
            text = name.text if isinstance(name, QuotedString) else name
            known = isinstance(text, str) and ".." not in text.split("/")
            if names and not override.is_delete() and not known:
                raise ValueError(
                    unknown_choice(group, "null" if text is None else str(text), names)
                )
    if isinstance(override._value, Glob) and not names:
        raise ValueError(f"{override.input_line}; glob() is for groups, such as lr=glob(tri*)")
    if override.is_discrete_sweep() and not any(True for _ in _values(override)):
        raise ValueError(f"{override.input_line} is a sweep over no value; name at least one")


def _values(override: Override) -> Iterator[object]:
    """Yield the values of an override: one, or those of its sweep."""
    if isinstance(override._value, Glob):
        yield from override._value.filter(choices(override.key_or_group))
    elif override.is_discrete_sweep():
        yield from override.sweep_iterator()
    else:
        yield override._value


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()
