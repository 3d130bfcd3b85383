"""Warnings that name the caller's own line, however deep in libraries they are raised."""

from __future__ import annotations

import sys
import warnings

# What a training loop calls us through: their lines tell the reader nothing.
_BETWEEN = {
    "accelerate",
    "contextlib",
    "functools",
    "lightning",
    "meta_lr",
    "pytorch_lightning",
    "torch",
    "transformers",
}


def warn(message: str) -> None:
    """Raise a UserWarning at the innermost line outside of this package, torch and trainers."""
    frame, level = sys._getframe(1), 2
    while frame is not None and _package(frame.f_globals) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__")).partition(".")[0]
