"""The cosine that a rate falls along."""

from __future__ import annotations

import math


def cosine_share(step: int, total_steps: int) -> float:
    """Return (1 + cos(pi t / T)) / 2 at step t of T: 1 at first, 0 in the end and beyond."""
    return 0.5 * (1 + math.cos(math.pi * min(step / total_steps, 1.0)))
