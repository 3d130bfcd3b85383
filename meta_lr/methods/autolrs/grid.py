"""The search of a stage by trials at rates in equal ratios, judged by the loss after each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meta_lr.methods.autolrs.round import Round, Told
from meta_lr.methods.autolrs.stages import fall
from meta_lr.methods.autolrs.trials import Seen, loss_after

if TYPE_CHECKING:
    from meta_lr.methods.autolrs.method import AutoLRS


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
