"""Checks of arguments that several controllers share."""

from __future__ import annotations

import math


def refuse_counts(controller: object, least: int, *names: str) -> None:
    """Raise a ValueError unless these fields of a controller are whole numbers >= `least`."""
    for name in names:
        value = getattr(controller, name)
        if type(value) is not int or value < least:
            kind = type(controller).__name__
            raise ValueError(f"{kind} got {name}={value}; it needs a whole number >= {least}")


def refuse_not_positive(controller: object, *names: str) -> None:
    """Raise a ValueError unless these fields of a controller are finite numbers > 0."""
    for name in names:
        value = getattr(controller, name)
        if not 0 < value < math.inf:
            kind = type(controller).__name__
            raise ValueError(f"{kind} got {name}={value}; it needs a finite number > 0")
