"""Synthetic training runs: their losses, and the alignment of successive gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meta_lr import seeds
from meta_lr.explain.loss_schedule import NOISE, Array

FIRST, LAST = 2.3, 0.2  # nats: the first loss, and the last loss of a good run
WORST = 5.0  # largest loss of the diverging run, over the first loss
# Fractions of a run: the end of the plateau; the loss begins to rise, is largest, and is low again.
PLATEAU, RISES, WORST_AT, RECOVERED = 0.3, 0.4, 0.45, 0.55
AGREES, DISAGREES = 0.2, -0.3  # cosines of successive gradients: at the start; during divergence
FALLS, STUCK, BLOWS_UP = "the loss falls", "a plateau first", "the loss blows up"


@dataclass(frozen=True)
class History:
    """A run: the values that do not depend on the learning rate.

    Attributes:
        losses: Losses in nats, (steps,).
        alignment: Cosine between each gradient and the one before, for small steps, (steps,).
    """

    losses: Array
    alignment: Array


def histories(steps: int) -> Mapping[str, History]:
    """Return three runs with this number of steps, by name; they are always the same."""
    part = np.arange(steps) / steps
    falling, agreement = _falling(part), AGREES * (1 - part)
    stuck = part < PLATEAU
    late = _falling(np.clip((part - PLATEAU) / (1 - PLATEAU), 0, 1))
    rise = np.interp(part, [RISES, WORST_AT, RECOVERED], [0, 1, 0])
    blown = falling ** (1 - rise) * (WORST * FIRST) ** rise
    wrong = (part >= RISES) & (part < WORST_AT)
    return {
        FALLS: _noisy(FALLS, falling, agreement),
        STUCK: _noisy(STUCK, late, np.where(stuck, AGREES, agreement)),
        BLOWS_UP: _noisy(BLOWS_UP, blown, np.where(wrong, DISAGREES, agreement)),
    }


def _falling(part: Array) -> Array:
    return LAST + (FIRST - LAST) * np.exp(-5 * part)


def _noisy(name: str, mean: Array, alignment: Array) -> History:
    generator = np.random.default_rng(seeds.derive(0, "explain", name))
    return History(mean * np.exp(NOISE * generator.standard_normal(len(mean))), alignment)
