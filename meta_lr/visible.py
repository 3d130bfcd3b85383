"""Text from other sources, such as a name in a record, made safe to show on a terminal."""

from __future__ import annotations

import re

# Control characters, line separators, changes of the writing direction, and characters that UTF-8
# or XML do not allow.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def visible(text: str, *, keep: str = "") -> str:
    r"""Return `text` with its hidden characters written as escapes, except those in `keep`.

    >>> print(visible("\x1b[31mred\n"))
    \x1b[31mred\n
    """
    return _HIDDEN.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
