"""The search of a stage by trials at rates in equal ratios, judged by the loss after each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from meta_lr.methods.autolrs.round import Round, Told, usable
from meta_lr.methods.autolrs.stages import fall
from meta_lr.methods.autolrs.trials import Seen, loss_after

if TYPE_CHECKING:
    from meta_lr.methods.autolrs.method import AutoLRS
    from meta_lr.training.sandbox import Sandbox

_BATCHES = 4  # by which the loss at the start is known
_ONCE_MORE = 1.5  # how much more another run would differ than another choice of batches
ALIKE = 0.01  # part of the loss within which two are alike
_DRAWS = 4000  # of losses, to see which is the least


@dataclass(frozen=True)
class Grid(Round):
    """The search of one stage, in which all trials see the same batches.

    Args:
        limit: The loss above which a trial has failed; None: any will do.
    """

    method: AutoLRS
    limit: float | None

    @property
    def num_trials(self) -> int:
        """Of this stage."""
        first = self.method.first_trials
        return self.method.trials if self.state.num_stages or first is None else first

    def ask(self, told: Sequence[Told]) -> float:
        """Return the place of the next rate: all are in equal ratios, from end to end."""
        low, high = self._within
        part = len(told) / (self.num_trials - 1) if self.num_trials > 1 else 0.5
        return low + (high - low) * part

    def attempt(self, rate: float, index: int) -> Seen:
        """Train a copy at a rate that falls to zero in the end; return the losses after that."""
        with self.view.sandbox.trial() as trial:
            return loss_after(
                trial,
                self._annealed(rate),
                self.method.batches,
                limit=self.limit,
                validates=self.plan.period > 0,
            )

    def forecast(self, seen: Seen) -> float:
        """Return the mean loss after the trial."""
        return math.fsum(seen.losses) / len(seen.losses)

    def _annealed(self, rate: float) -> list[float]:
        """Return the rates of a trial's steps, which fall to zero.

        A trial is too short for the loss to recover after a large learning rate, so the smallest
        one would always seem the best. Therefore all trials of a stage fall from the smallest
        learning rate that it may try. In the first stage, where any may be tried, each falls from
        its own.
        """
        method, num_steps = self.method, self.plan.trial
        least = rate if self._near is None else method.rate_at(self._within[0])
        factors = [fall(step, num_steps, method.anneal) for step in range(num_steps)]
        return [rate if factor == 1.0 else least * factor for factor in factors]

    @property
    def _near(self) -> float | None:
        """The largest factor from the last rate, None where any may be tried."""
        return self.method.max_change if self.state.num_stages else None

    @property
    def _within(self) -> tuple[float, float]:
        """The smallest and the largest place that may be tried."""
        if self._near is None:
            return 0.0, 1.0
        method = self.method
        decades = math.log(method.max_lr / method.min_lr)
        place = math.log(self.state.chosen / method.min_lr) / decades
        reach = math.log(self._near) / decades
        return max(0.0, place - reach), min(1.0, place + reach)


class Start(NamedTuple):
    """The training loss where a stage begins: mean and standard deviation over four batches."""

    mean: float
    spread: float

    def limit(self, above: float, first: float) -> float:
        """Return the loss that is `above` times the mean higher than it, or `first` if larger.

        Where the mean is near zero, the spread takes its place.

        Args:
            above: How many times.
            first: The mean where the first stage began, which a network that learned is far below,
                on hard batches too.
        """
        return max(self.mean + above * max(abs(self.mean), self.spread), first)


def start_of(sandbox: Sandbox) -> Start:
    """Return the training loss at present."""
    with sandbox.trial() as trial:
        losses = torch.tensor(trial.train_losses(_BATCHES), dtype=torch.float64)
    return Start(float(losses.mean()), float(losses.std()))


def with_errors(told: Sequence[Told]) -> list[Told]:
    """Return what was told with the errors of the losses after the trials.

    An error is that of the difference from the least loss: the trials saw the same batches, and
    what these have in common is no error. A repetition would meet other batches on its way too, so
    the error is taken one and a half times. And whatever the batches say, a hundredth of a loss is
    no difference: where nothing is learned yet, on the plateau at the start, a small rate seems
    the best because it does nothing.
    """
    if all(point.failed for point in told):
        return list(told)
    losses = np.array([point.seen.losses for point in usable(told)])
    count = losses.shape[1]
    means = losses.mean(axis=1)
    apart = losses - losses[means.argmin()]
    spread = apart.std(axis=1, ddof=1) if count > 1 else 0.0
    errors = iter(np.hypot(_ONCE_MORE * spread / count**0.5, ALIKE * means).tolist())
    return [point if point.failed else point._replace(error=next(errors)) for point in told]


def likely(told: Sequence[Told], seed: int) -> float:
    """Return where the best place is to be expected: each counts by how probably it is the best.

    Where the losses do not tell the rates apart, that is in the middle of those tried. If all
    trials have failed, it is the smallest place.
    """
    tried = usable(told)
    losses, errors = (np.array([getattr(p, name) for p in tried]) for name in ("loss", "error"))
    normal = np.random.RandomState(seed % 2**32).standard_normal((_DRAWS, len(tried)))
    best = (normal * errors + losses).argmin(axis=1)
    chances = np.bincount(best, minlength=len(tried)) / _DRAWS
    return float(chances @ [point.place for point in tried])
