"""The LR range test: a short sweep of the learning rate, and the range [k0, k1] it suggests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from meta_lr.methods.sweep import Sweep, smooth, start_of
from meta_lr.optim import rules
from meta_lr.records.reader import Record, read_record
from meta_lr.records.rows import Row
from meta_lr.tasks.base import Task
from meta_lr.training.loop import train

SMOOTHING, SAFETY = 0.9, 4.0
HIGHEST = {"adagrad": 100.0, "adadelta": 1e4}
"""Optimizer family -> default of the last learning rate of a sweep; it is 10 for all others."""
SHORTEST = 20  # steps of the shortest useful sweep
_CLEAR = 0.1  # share of the whole fall; a larger fall or rise is clear
_FALL, _SIGMAS = 0.01, 4.0  # smallest fall: share of the first loss, and multiple of the noise
_LOWER, _HIGHER = "lower low", "raise high, or take more steps"


@dataclass(frozen=True, eq=False)
class RangeTest:
    """The result of one or more sweeps of the learning rate.

    Attributes:
        rates: Learning rates (steps,), rising, up to the step where the first sweep diverged.
        losses: Losses (sweeps, steps) of the training batches, before the step at that rate.
        smoothed: Smoothed mean of the sweeps' losses, (steps,).
        k0: The lower end of the suggested range.
        k1: The upper end of the suggested range.
        diverged: Whether a sweep ended before its highest learning rate.
        cost: Cost of all sweeps, in plain steps.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    k0: float
    k1: float
    diverged: bool
    cost: float


def range_test(
    task: Task,
    optimizer: Callable[[list[nn.Parameter]], Optimizer],
    *,
    low: float = 1e-5,
    high: float | None = None,
    steps: int = 300,
    seed: int = 0,
    smoothing: float = SMOOTHING,
    safety: float = SAFETY,
    clip: float | None = None,
    device: str = "cpu",
    folder: Path | None = None,
) -> RangeTest:
    """Train `task` while the learning rate rises from `low` to `high`, and suggest a range.

    Args:
        task: The task to train.
        optimizer: Makes the optimizer from the model's parameters.
        low: The first learning rate.
        high: The last learning rate; the sweep stops earlier if the loss diverges (see `Sweep`).
            None takes it from `HIGHEST` for the optimizer's family, or else 10.
        steps: Length of the sweep, in optimizer steps.
        seed: Seed of everything that is random in the sweep, except for the task's own seed.
        smoothing: Smoothing factor of the losses; see `Sweep`.
        safety: See `suggest`.
        clip: Largest norm of the gradient; None does not clip.
        device: Device of model and batches.
        folder: Where record and state are kept, for a resume; None keeps nothing.

    Raises:
        ValueError: An argument is out of range, or the sweep shows no range; the message says what
            to widen.
    """
    refuse(steps=steps, safety=safety)
    rows: list[Row] = []
    train(
        task,
        optimizer,
        Sweep(low, highest(optimizer) if high is None else high, smoothing),
        total_steps=steps,
        seed=seed,
        folder=folder,
        eval_every=steps,
        clip=clip,
        device=device,
        listener=rows.append,
        test=False,
    )
    record = Record(rows) if folder is None else read_record(folder)
    return suggest([record], smoothing=smoothing, safety=safety)


def highest(optimizer: Callable[[list[nn.Parameter]], Optimizer]) -> float:
    """Return the default for the last learning rate of a sweep."""
    return highest_of(optimizer([nn.Parameter(torch.zeros(1))]))


def highest_of(optimizer: Optimizer) -> float:
    """Return the default for the last learning rate of a sweep with this optimizer."""
    return HIGHEST.get(rules.family(optimizer), 10.0)


def refuse(*, steps: int, safety: float) -> None:
    """Raise a ValueError, before any training, for a sweep that cannot give a result."""
    if steps < SHORTEST:
        raise ValueError(f"a sweep of {steps} steps says nothing; needed are at least {SHORTEST}")
    if not 1 <= safety < np.inf:
        raise ValueError(f"safety={safety}; a finite number is needed, at least 1")


def suggest(
    records: Sequence[Record], *, smoothing: float = SMOOTHING, safety: float = SAFETY
) -> RangeTest:
    """Return the range suggested by one or more equal sweeps with different seeds.

    The loss at the start is the mean over the first tenth of the sweep, where the loss should not
    change yet. The fall is the difference between the loss at the start and the lowest smoothed
    loss. A change by a tenth of the fall is called clear.

    * k0 is the first learning rate from which the smoothed loss stays clearly below the loss at the
      start, until it reaches its lowest value.
    * k1 is a learning rate divided by `safety`. It is the first one after the lowest smoothed loss
      at which the smoothed loss is clearly above its lowest value again, or the last one before
      divergence. The division corrects a delay: at a learning rate that is too high, an instability
      needs some steps to grow, and meanwhile the learning rate rises further. The smoothing also
      lags by smoothing / (1 - smoothing) steps. On a noisy quadratic of curvature up to c, SGD is
      stable below 2 / c, and the default of 4 gives a k1 between 0.25 and 0.75 of this value.
      Without any noise, an instability begins near zero, and k1 may reach 1.1 times this value.

    Several sweeps are averaged step by step, up to the step where the first of them diverged. The
    mean is over the losses, not over their logarithms: a noisy loss near zero may have no
    logarithm. A diverging sweep ends, so no sweep dominates the mean.

    Args:
        records: The record of each sweep, with every step.
        smoothing: Smoothing factor of the sweeps.
        safety: At least 1.

    Raises:
        ValueError: The loss never falls clearly. It must fall by 1 %, and by four times the noise
            in the fall, which is estimated from the jumps of the losses at the start. Or the loss
            begins to fall or to rise outside of the sweep, or both happen within a factor of
            `safety`.
    """
    steps = [record.steps for record in records]
    length = min(map(len, steps))
    start = start_of(records[0].header["total_steps"])
    if length <= start:
        raise ValueError(f"the loss diverges within the first tenth of the sweep; {_LOWER}")
    losses = np.array([[row["loss"] for row in some[:length]] for some in steps])
    rates = np.array([row["lr"] for row in steps[0][:length]])
    diverged = any(record.end["status"] != "finished" for record in records)
    curve = _Curve(rates, losses.mean(axis=0), smoothing, start, diverged)
    falls, rises = curve.turns()
    k0, k1 = float(rates[falls]), float(rates[rises] / safety)
    if k0 >= k1:
        raise ValueError(
            f"the loss falls from the learning rate {k0:.3g} on and rises from {rates[rises]:.3g} "
            f"on, which leaves no range with safety={safety:g}; sweep more slowly, with more "
            "steps, or with low and high closer to these learning rates"
        )
    cost = sum(record.end["cost"] for record in records)
    return RangeTest(rates, losses, curve.smoothed, k0, k1, diverged=diverged, cost=cost)


@dataclass(frozen=True, eq=False)
class _Curve:
    """The mean of the sweeps."""

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothing: float
    start: int
    diverged: bool

    @cached_property
    def smoothed(self) -> NDArray[np.float64]:
        return smooth(self.losses, self.smoothing)

    def turns(self) -> tuple[int, int]:
        """Return the steps at which the smoothed loss begins to fall clearly, and to rise."""
        begin, lowest = self.losses[: self.start].mean(), int(self.smoothed.argmin())
        bottom = self.smoothed[lowest]
        least = max(_SIGMAS * self._noise, _FALL * abs(begin))
        if lowest < self.start or not begin - bottom > least:
            raise ValueError(self._no_fall(begin, bottom))
        clear = _CLEAR * (begin - bottom)
        (high,) = np.nonzero(self.smoothed[:lowest] > begin - clear)
        falls = int(high[-1]) + 1 if high.size else 0
        if falls < self.start:
            raise ValueError(
                f"the loss already falls at the lowest learning rate, {self.rates[0]:.3g}; {_LOWER}"
            )
        (risen,) = np.nonzero(self.smoothed[lowest:] > bottom + clear)
        if not (risen.size or self.diverged):
            raise ValueError(
                f"the loss has not risen yet at the highest learning rate, {self.rates[-1]:.3g}; "
                f"{_HIGHER}"
            )
        return falls, lowest + int(risen[0]) if risen.size else len(self.rates) - 1

    @property
    def _noise(self) -> float:
        """Standard deviation of a smoothed loss minus the start's mean, for constant weights.

        It is estimated from the jumps of the loss at the start. A slow fall does not change them.
        """
        jumps, b = np.diff(self.losses[: self.start]), self.smoothing
        return math.sqrt(np.mean(jumps**2) / 2 * ((1 - b) / (1 + b) + 1 / self.start))

    def _no_fall(self, begin: float, bottom: float) -> str:
        first, last = self.losses[0], self.smoothed[-1]
        rises = self.diverged or last > first + abs(first) / 2
        return (
            f"the loss never falls clearly between the learning rates {self.rates[0]:.3g} and "
            f"{self.rates[-1]:.3g}: it begins at {begin:.4g}, and smoothed (with a noise of "
            f"{self._noise:.2g}) its lowest is {bottom:.4g}; {_LOWER if rises else _HIGHER}, or "
            "average more sweeps if the noise hides the fall"
        )
