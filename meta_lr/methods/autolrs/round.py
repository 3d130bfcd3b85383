"""AutoLRS's search at the start of one stage: trials at k rates, and the rate that they favour."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from meta_lr.methods.autolrs import search as searches
from meta_lr.methods.autolrs.forecast import published
from meta_lr.methods.autolrs.search import WHOLE, Range, Told
from meta_lr.methods.autolrs.stages import Stage, fall
from meta_lr.methods.autolrs.trials import Seen, observe, start_of
from meta_lr.protocol import StepView
from meta_lr.seeds import derive

if TYPE_CHECKING:
    from meta_lr.methods.autolrs.method import AutoLRS, AutoLRSState


class Found(NamedTuple):
    """What the search of a stage found.

    Attributes:
        rate: To hold.
        told: By each trial.
        first_mean: The mean loss where the first stage began; nan if nobody asked.
    """

    rate: float
    told: list[Told]
    first_mean: float


@dataclass(frozen=True)
class Round:
    """The search of one stage.

    Args:
        method: Its options.
        view: Of the step at which the stage begins.
        state: Before it.
        plan: Of the stage.
        old: The rate that the optimizer has.
    """

    method: AutoLRS
    view: StepView
    state: AutoLRSState
    plan: Stage
    old: float

    def search(self) -> Found:
        """Try the rates, and return what was found."""
        method, told = self.method, list[Told]()
        limit, first_mean = self._limit()
        for index in range(self._num_trials):
            place = self._ask(told)
            told.append(self._tell(place, self._try(place, index, limit)))
            self._note(index, told[-1])
        told = searches.with_errors(told, paired=method.common_batches)
        rate = method.rate_at(self._best(told))
        errors = [None if point.failed else point.error for point in told]
        self.view.sandbox.note(stage=self.state.num_stages, chosen=rate, errors=errors)
        return Found(rate, told, first_mean)

    def _limit(self) -> tuple[float | None, float]:
        """Return the loss at which a trial has failed, and the mean where the first stage began."""
        first, above = self.state.first_mean, self.method.stop_above
        if above is None:
            return None, first
        start = start_of(self.view.sandbox)
        first = start.mean if math.isnan(first) else first
        return start.limit(above, first), first

    def _try(self, place: float, index: int, limit: float | None) -> Seen:
        """Train a copy at a rate, and return what it sees."""
        method = self.method
        after = method.batches if method.forecast == "end" else 0
        draw = 0 if method.common_batches else index * (self.plan.trial + 1 + after)
        rates = list(self._rates(method.rate_at(place), index))
        with self.view.sandbox.trial(draw) as trial:
            return observe(
                trial, self.plan, rates, limit=limit, val_batches=method.val_batches, after=after
            )

    def _rates(self, rate: float, index: int) -> Iterator[float]:
        """Yield the rates of a trial's steps."""
        num_steps, method = self.plan.trial, self.method
        if method.steps == "published" and self.state.num_stages + index == 0:
            num_steps += 1
        elif method.steps == "published":
            yield self.old
            num_steps -= 1
        yield from self._annealed(rate, num_steps)

    def _annealed(self, rate: float, num_steps: int) -> list[float]:
        """Return the rate for all steps; but if the loss after them counts, it falls to zero.

        Weights that a large rate has shaken take longer to come to rest than a trial lasts, so
        that near them the smallest rate always seems the best. Therefore all trials of a stage
        fall from the smallest rate that it may try; where any may be tried, as in the first stage,
        each falls from its own.
        """
        method = self.method
        part = method.anneal if method.forecast == "end" else 0.0
        least = method.rate_at(self._within[0]) if self._near is not None else rate
        factors = [fall(step, num_steps, part) for step in range(num_steps)]
        return [rate if factor == 1.0 else least * factor for factor in factors]

    def _tell(self, place: float, seen: Seen) -> Told:
        """Return what a trial found."""
        return Told(place, math.inf if seen.failed else self._forecast(seen), seen=seen)

    def _forecast(self, seen: Seen) -> float:
        """Return the loss that a trial promises."""
        method, plan = self.method, self.plan
        if seen.after:
            return math.fsum(seen.after) / len(seen.after)
        if method.val_guard and plan.period and max(seen.losses) >= self.state.first_loss:
            return seen.losses[-1]
        at, validates = plan.tau // (plan.period or 1), plan.period > 0
        return published(seen.losses, at, validates=validates)

    def _note(self, index: int, told: Told) -> None:
        self.view.sandbox.note(
            stage=self.state.num_stages,
            trial=index,
            rate=self.method.rate_at(told.place),
            loss=None if told.failed else told.loss,
            steps=told.seen.num_steps,
            failed=told.failed,
            start=told.seen.start,
        )

    @property
    def _num_trials(self) -> int:
        first = self.method.first_trials
        return self.method.trials if self.state.num_stages or first is None else first

    def _ask(self, told: list[Told]) -> float:
        """Return the place of the next rate to try."""
        method, index, (low, high) = self.method, len(told), self._within
        seed = derive(method.seed, "autolrs", self.state.num_stages, index)
        if method.search == "grid":
            return low + (high - low) * searches.log_spaced(index, self._num_trials)
        if method.search == "random":
            return low + (high - low) * searches.spread_out(0, 1, seed)
        initial = min(method.initial, self._num_trials)
        if index < initial:
            return low + (high - low) * searches.spread_out(index, initial, seed)
        if method.search == "gp_published":
            return searches.published(told, method.kappa, seed, within=(low, high))
        return searches.by_bound(told, method.kappa, within=(low, high))

    @property
    def _near(self) -> float | None:
        """The largest factor from the last rate, None where any may be tried."""
        return self.method.max_change if self.state.num_stages else None

    @property
    def _within(self) -> Range:
        """The places that may be tried."""
        if self._near is None:
            return WHOLE
        method = self.method
        decades = math.log(method.max_lr / method.min_lr)
        place = math.log(self.state.chosen / method.min_lr) / decades
        reach = math.log(self._near) / decades
        return max(0.0, place - reach), min(1.0, place + reach)

    def _best(self, told: list[Told]) -> float:
        """Return the place of the rate to hold; that of the smallest one if all have failed."""
        usable = [point for point in told if not point.failed]
        if not usable:
            return min(point.place for point in told)
        if self.method.choose == "least":
            return min(usable, key=lambda point: point.loss).place
        return searches.likely(usable, derive(self.method.seed, "likely", self.state.num_stages))
