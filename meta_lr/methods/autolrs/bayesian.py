"""The search of a stage as published: a Gaussian process, and forecasts along an exponential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meta_lr.methods.autolrs.forecast import published
from meta_lr.methods.autolrs.gaussian_process import next_place
from meta_lr.methods.autolrs.round import Round, Told
from meta_lr.methods.autolrs.trials import Seen, losses_on_the_way
from meta_lr.seeds import derive

if TYPE_CHECKING:
    from meta_lr.methods.autolrs.paper import AutoLRSPaper


@dataclass(frozen=True)
class Bayesian(Round):
    """The search of one stage, in which each trial sees batches of its own.

    Args:
        old: The rate that the optimizer has.
    """

    method: AutoLRSPaper
    old: float

    def ask(self, told: Sequence[Told]) -> float:
        """Return the place of the next rate: a random one, and then the process's."""
        seed = derive(self.method.seed, "autolrs", self.state.num_stages, len(told))
        return next_place(told, self.method.kappa, seed)

    def attempt(self, rate: float, index: int) -> Seen:
        """Train a copy at a rate; return the losses on the way."""
        with self.view.sandbox.trial(index * (self.plan.trial + 1)) as trial:
            rates = self._rates(rate, index)
            return losses_on_the_way(trial, self.plan, rates, self.method.val_batches)

    def forecast(self, seen: Seen) -> float:
        """Return where the losses lead; but the last one, if they validate and are too high."""
        plan, validates = self.plan, self.plan.period > 0
        if validates and max(seen.losses) >= self.state.first_loss:
            return seen.losses[-1]
        return published(seen.losses, plan.tau // (plan.period or 1), validates=validates)

    def best(self, told: Sequence[Told]) -> float:
        """Return the place of the least loss, or, if all have failed, the smallest place."""
        usable = [point for point in told if not point.failed]
        if not usable:
            return min(point.place for point in told)
        return min(usable, key=lambda point: point.loss).place

    def _rates(self, rate: float, index: int) -> list[float]:
        """Return those of a trial's steps: the first is at the rate before, or is one more."""
        num_steps = self.plan.trial
        if self.state.num_stages + index == 0:
            return [rate] * (num_steps + 1)
        return [self.old] + [rate] * (num_steps - 1)
