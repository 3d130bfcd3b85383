"""Parsing of JSON from other sources: a damaged text raises a ValueError of one short line."""

from __future__ import annotations

import json
from typing import Any

_MOST_DIGITS = 300  # a longer whole number does not fit into a float


def parse_json(text: str | bytes) -> Any:
    """Return the value in `text`; bytes are UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: The text is not JSON, not text, nested too deeply, or has a number too long to
            use.

    >>> parse_json(b'{"gamma": 0.5}')
    {'gamma': 0.5}
    """
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not {error.encoding.upper()} text") from None


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)
