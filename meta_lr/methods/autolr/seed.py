"""AutoLR's default seed learning rate: a short sweep of the learning rate on a copy of the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from meta_lr.methods.sweep import smooth, start_of

if TYPE_CHECKING:
    from meta_lr.training.sandbox import Sandbox

LOWEST, HIGHEST, STEPS = 1e-5, 10.0, 100
SMOOTHING, SAFETY = 0.9, 10.0
_START = start_of(STEPS)  # steps in which the loss should not change yet
_FALL = 0.01  # share of the first loss; a smaller fall does not count


def sweep(sandbox: Sandbox) -> float:
    """Return a tenth of the learning rate with the lowest smoothed loss in a sweep.

    The learning rate rises in equal ratios from 1e-5 to 10, on new batches. The sweep stops when
    the smoothed loss exceeds its minimum by the loss at the start. The factor of one tenth has two
    reasons: the loss shows late that a learning rate is too high (the smoothed loss nine steps
    later), and a run uses the learning rate for many steps.

    Raises:
        ValueError: The loss does not fall clearly, or does not rise again.
    """
    rates, losses = np.geomspace(LOWEST, HIGHEST, STEPS).tolist(), list[float]()
    with sandbox.trial() as trial:
        for rate in rates:
            loss = float(trial.step(rate))
            if not math.isfinite(loss):
                break
            losses.append(loss)
            if _has_risen(losses):
                break
    return _least(rates, losses) / SAFETY


def _least(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the learning rate with the lowest smoothed loss."""
    smoothed, start = smooth(np.array(losses), SMOOTHING), losses[:_START]
    least, begin = int(np.argmin(smoothed)), float(np.mean(start))
    sweep = f"in a sweep from {rates[0]:g} to {rates[-1]:g} the loss"
    none = f"AutoLR found no seed learning rate: {sweep}"
    if not begin - smoothed[least] > max(float(np.std(start)), _FALL * abs(begin)):
        raise ValueError(f"{none} never falls clearly; pass seed_rate=")
    if least == len(rates) - 1:
        raise ValueError(f"{none} does not rise; pass seed_rate=")
    return rates[least]


def _has_risen(losses: Sequence[float]) -> bool:
    smoothed, size = smooth(np.array(losses), SMOOTHING), max(map(abs, losses[:_START]))
    return len(losses) > _START and bool(smoothed[-1] > smoothed.min() + size)
