"""Cosine annealing of a learning rate."""

from __future__ import annotations

import math


def cosine_share(step: int, total_steps: int) -> float:
    """Return (1 + cos(pi t / T)) / 2 at step t of T: 1 at step 0, 0 from step T on."""
    return 0.5 * (1 + math.cos(math.pi * min(step / total_steps, 1.0)))
