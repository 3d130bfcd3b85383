"""Warnings that name the caller's own line, even if they are raised deep inside libraries."""

from __future__ import annotations

import sys
import warnings

# Packages between the user's training loop and this one. Their lines do not help the user.
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
    """Issue a UserWarning at the innermost line outside of this package, torch and trainers."""
    frame, level = sys._getframe(1), 2
    while frame is not None and _package(frame.f_globals) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__")).partition(".")[0]
