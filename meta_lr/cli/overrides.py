"""The `key=value` arguments of a command: text that Hydra's grammar refuses is quoted.

That is an unquoted accent, `~` or parenthesis, where it can only be text.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException


def readable(overrides: Sequence[str]) -> list[str]:
    """Return the overrides as Hydra reads them.

    Raises:
        ValueError: An argument is no override, or could mean two things.
    """
    return [_readable(override) for override in overrides]


def parsed(override: str) -> Override | None:
    """Return what Hydra makes of an override; None if it cannot read it."""
    try:
        return _parser().parse_override(override)
    except HydraException:
        return None


def typed(key: str, text: str) -> str:
    """Return what to type in a shell to set `key` to `text`, such as 'task.path="ü.txt"'."""
    return shlex.quote(f"{key}={_quoted(text)}")


def _readable(override: str) -> str:
    key, equals, value = override.partition("=")
    found = parsed(override)
    if found is not None and found.key_or_group:
        return override
    if not equals or not key or parsed(f"{key}=0") is None:
        raise ValueError(f"cannot read '{override}'; options are written key=value")
    if "${" in value:
        raise ValueError(f"cannot read '{override}'; an interpolation is written ${{NAME}}")
    if not _is_text(value):
        raise ValueError(f"cannot read '{override}'; as one text it is {typed(key, value)}")
    home = os.path.expanduser(value) if value.startswith("~/") else value
    return f"{key}={_quoted(home)}"


def _is_text(value: str) -> bool:
    """Return whether a value that Hydra cannot read can only be text."""
    call = re.match(r"(\w+)\s*\(", value)
    known = call is not None and call[1] in create_functions().functions
    return not known and value[:1] not in tuple("[{'\"") and not re.search(r"[,\\]", value)


def _quoted(text: str) -> str:
    """Return `text` in the quotes that Hydra wants, and every character in it as it is."""
    return QuotedString(text, Quote.double).with_quotes()


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()
