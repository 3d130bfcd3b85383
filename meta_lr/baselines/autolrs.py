"""AutoLRS: the rate that a search finds best for the steps ahead, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from meta_lr.baselines import autolrs_forecast as forecasts
from meta_lr.baselines import autolrs_search as searches
from meta_lr.baselines.autolrs_forecast import Forecast
from meta_lr.baselines.autolrs_options import PUBLISHED, refuse_unusable
from meta_lr.baselines.autolrs_search import Told
from meta_lr.baselines.autolrs_stages import POINTS, Stage, lengths, stage
from meta_lr.baselines.autolrs_trials import Seen, limit_at, observe
from meta_lr.protocol import Need, StepView
from meta_lr.seeds import derive

__all__ = ["PUBLISHED", "AutoLRS", "AutoLRSState"]

_EVIDENCE = 2.0  # standard deviations by which a forecast must be lower to be believed so


class AutoLRSState(NamedTuple):
    """What AutoLRS knows between two steps.

    Attributes:
        lr: Of the step before.
        chosen: The rate of the present stage, 0 before the first.
        begin: The step at which the stage began, -1 before the first.
        end: The step at which the next one begins.
        first_loss: The run's loss when the first search began, nan before.
        known: What the last search found, in standard deviations: (place, loss, error) each.
        num_stages: Begun so far.
        num_trials: Of all stages.
        num_failed: Of these.
    """

    lr: float | None = None
    chosen: float = 0.0
    begin: int = -1
    end: int = -1
    first_loss: float = math.nan
    known: tuple[tuple[float, float, float], ...] = ()
    num_stages: int = 0
    num_trials: int = 0
    num_failed: int = 0


@dataclass(frozen=True)
class AutoLRS:
    """Try k rates for a few steps each, forecast their losses, and hold the best one for tau steps.

    Update:
        at the start of each stage, for i = 1 ... k: a rate r_i by the search; tau' = tau / ratio
        steps at r_i on a copy of model and optimizer; an exponential through their losses gives
        the loss at look * tau. Then tau steps at the r_i of the least one. tau doubles from stage
        to stage up to tau_max; the stages after the first of that length read the validation loss.
    Reference:
        Jin et al. 2021, arXiv 2105.10762, and its published code
    Deviations:
        of the defaults, each an option that PUBLISHED (lr=autolrs_paper) takes back:
        1. a stage may be shorter; 2. after a return to a stage's start the new rate holds at once;
        3. failed trials are stopped; 4. the forecast is a robust fit with an error, and 5. that is
        the model's noise; 6. the model remembers the last stage; 7. kappa is small, the first
        rates are spread out; 8. the trials of a stage see the same batches; 9. forecasts look
        beyond the stage; 10. a large fall of the rate asks for evidence, a large rise is not
        tried; 11. the least forecast is not taken unless the model's mean confirms it.
        Of PUBLISHED: 1. trials see batches drawn for them, not the next ones of the run, and begin
        after the forward pass of the run's own, which BatchNorm has seen; 2. what ended the
        published server does not: a loss that is no number, or is huge, is told as 1e6 and never
        chosen, and a fit without a unique answer is that of least squares; 3. all that is random
        follows from the seed; 4. groups of parameters keep their ratios; 5. below 32 steps a trial
        validates after each one; 6. where its authors' texts leave it open, the forecast is of a
        trial's last tau' losses, and the last validation is after its last step.
    Cost:
        k tau / ratio steps per stage: with k = ratio as many as are trained with, and with
        validation 16 k evaluations more

    A search happens inside one step of the run and is repeated if it is interrupted. Without a
    `tau` or `tau_max` the lengths follow from that of the run, see
    `meta_lr.baselines.autolrs_stages.lengths`, and the last stage ends where it does.

    Args:
        min_lr: The smallest rate.
        max_lr: The largest rate; both ends may be tried.
        tau: Length of the first stage, in steps: its trials should outlast the momentum, as 20
            steps do.
        tau_max: Length of the longest stage, in steps.
        ratio: A stage's length over a trial's.
        trials: k, per stage.
        search: How rates are tried: where a Gaussian process has its least lower bound, as we or
            as the authors do it; or, as controls, log-spaced or at random.
        kappa: Standard deviations from the mean to the lower bound; the paper has 1000, its code
            1e6, with which nothing but the distance to other rates matters.
        initial: Rates tried before the model is asked, one at random in each of so many equal
            parts.
        noisy: Whether the model is told the forecasts' errors.
        keep: Whether the model remembers what the stage before found, as if this were its error, in
            standard deviations of its forecasts; None forgets.
        choose: Take the rate of the least forecast, or, by the model, the rate where the larger of
            forecast and the model's mean is least: one lucky trial is not enough.
        forecast: By a robust fit of the exponential, or as published.
        look: How far ahead a forecast looks, in lengths of the stage; where the run's length is
            asked for, no further than its end.
        common_batches: Whether all trials of a stage train on the same batches.
        stop_above: A trial fails if its loss rises over the start's by more than so many times the
            start's; None lets it run.
        max_fall: The rate falls from stage to stage by no larger factor, unless a forecast is lower
            by two standard deviations; None lets it fall.
        max_rise: The search reaches no further above the stage before than this factor: a rate may
            be unstable only after many more steps than a trial has; None lets it rise.
        steps: How steps are counted: "exact"; or "published", where a rate is only set after a
            step, so the first one of the run, of each trial and of each stage is at the rate
            before, and a stage is two steps longer.
        val_guard: Whether a trial whose validation losses reach the run's first training loss
            counts with the last of them.
        val_batches: Batches of a validation loss, random ones, the same for all trials of a stage.
        warmup_steps: Steps that come before the first search.
        warmup_lr: To which the rate then rises, linearly.
        seed: Of the search.

    Raises:
        ValueError: An option is out of range.

    >>> method = AutoLRS(min_lr=1e-3, max_lr=1.0, warmup_steps=4, warmup_lr=0.2)
    >>> [method(StepView(method, step), method.init())[0] for step in range(4)]
    [0.05, 0.1, 0.15000000000000002, 0.2]
    """

    min_lr: float
    max_lr: float
    tau: int | None = 200
    tau_max: int | None = 1600
    ratio: int = 10
    trials: int = 10
    search: Literal["gp", "gp_published", "grid", "random"] = "gp"
    kappa: float = 1.5
    initial: int = 4
    noisy: bool = True
    keep: float | None = 1.0
    choose: Literal["forecast", "model"] = "model"
    forecast: Literal["robust", "published"] = "robust"
    look: float = 2.0
    common_batches: bool = True
    stop_above: float | None = 3.0
    max_fall: float | None = 4.0
    max_rise: float | None = 2.0
    steps: Literal["exact", "published"] = "exact"
    val_guard: bool = False
    val_batches: int = 1
    warmup_steps: int = 0
    warmup_lr: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        refuse_unusable(self)

    @cached_property
    def needs(self) -> Need:
        """Trials; the run's length, unless the stages' are given; its loss, if that is a guard."""
        scaled = self.tau is None or self.tau_max is None
        return (
            Need.TRIALS
            | (Need.HORIZON if scaled else Need.NOTHING)
            | (Need.LOSS if self.val_guard else Need.NOTHING)
        )

    def init(self) -> AutoLRSState:
        """Return the state before the first step."""
        return AutoLRSState()

    def __call__(self, view: StepView, state: AutoLRSState) -> tuple[float, AutoLRSState]:
        """Return the rate of this step; where a stage begins, search for it first."""
        if self.val_guard and view.step < max(self._first, 1):
            state = state._replace(first_loss=view.loss_item())
        if view.step < self._first:
            lr = self._before(view)
        else:
            if view.step >= state.end:
                state = self._search(view, state)
            lr = state.chosen
            if self.steps == "published" and view.step == state.begin:
                lr = self._old(view, state)
        return lr, state._replace(lr=lr)

    def _search(self, view: StepView, state: AutoLRSState) -> AutoLRSState:
        """Return the state at the start of a stage, with the rate that its trials find best."""
        plan, told = self._plan(view, state), list[Told]()
        above = self.stop_above
        limit = None if above is None else limit_at(view.sandbox, above)
        for index in range(self.trials):
            place = self._ask(told, state)
            told.append(self._try(view, state, plan, place, index, limit))
        chosen = self._rate(self._best(told, state).place)
        known = () if self.keep is None else tuple(map(tuple, searches.standardised(told)))
        return state._replace(
            chosen=chosen,
            begin=view.step,
            end=view.step + plan.tau + 2 * (self.steps == "published"),
            known=known,
            num_stages=state.num_stages + 1,
            num_trials=state.num_trials + len(told),
            num_failed=state.num_failed + sum(point.failed for point in told),
        )

    def _try(
        self,
        view: StepView,
        state: AutoLRSState,
        plan: Stage,
        place: float,
        index: int,
        limit: float | None,
    ) -> Told:
        """Train a copy at a rate, and return what is forecast for it."""
        rate = self._rate(place)
        rates = list(self._rates(view, state, plan, rate, index))
        with view.sandbox.trial(0 if self.common_batches else index * (plan.trial + 1)) as trial:
            start = trial.fingerprint()
            seen = observe(trial, plan, rates, limit=limit, val_batches=self.val_batches)
        ahead = self._forecast(seen, plan, state, self._ahead(view, plan))
        view.sandbox.note(
            stage=state.num_stages,
            trial=index,
            rate=rate,
            forecast=None if seen.failed else ahead.loss,
            error=None if seen.failed else ahead.error,
            steps=seen.num_steps,
            failed=seen.failed,
            start=start,
        )
        return Told(place, ahead.loss, ahead.own)

    def _rates(
        self, view: StepView, state: AutoLRSState, plan: Stage, rate: float, index: int
    ) -> Iterator[float]:
        """Yield the rates of a trial's steps."""
        num_steps = plan.trial
        if self.steps == "published" and state.num_stages + index == 0:
            num_steps += 1
        elif self.steps == "published":
            yield self._old(view, state)
            num_steps -= 1
        yield from (rate for _ in range(num_steps))

    def _forecast(self, seen: Seen, plan: Stage, state: AutoLRSState, at: int) -> Forecast:
        """Return the loss at step `at` that a trial's losses lead to; infinity if it has failed."""
        if seen.failed:
            return Forecast(math.inf)
        if self.val_guard and plan.period and max(seen.losses) >= state.first_loss:
            return Forecast(seen.losses[-1])
        if self.forecast == "robust":
            return forecasts.robust(seen.steps, seen.losses, at)
        last = POINTS if plan.period else plan.trial
        losses, validates = seen.losses[-last:], plan.period > 0
        return forecasts.published(losses, at // (plan.period or 1), validates=validates)

    def _ask(self, told: list[Told], state: AutoLRSState) -> float:
        """Return the place of the next rate to try."""
        index, top = len(told), self._top(state)
        seed = derive(self.seed, "autolrs", state.num_stages, index)
        if self.search == "grid":
            return top * searches.log_spaced(index, self.trials)
        if self.search == "random":
            return top * searches.spread_out(0, 1, seed)
        if index < self.initial:
            return top * searches.spread_out(index, self.initial, seed)
        if self.search == "gp_published":
            return searches.published(told, self.kappa, seed, top=top)
        known = self._known(state)
        return searches.by_bound(told, known, self.kappa, noisy=self.noisy, top=top)

    def _top(self, state: AutoLRSState) -> float:
        """Return the place of the largest rate that may be tried."""
        if self.max_rise is None or state.num_stages == 0:
            return 1.0
        rise = math.log(state.chosen * self.max_rise / self.min_lr)
        return min(1.0, rise / math.log(self.max_lr / self.min_lr))

    def _best(self, told: list[Told], state: AutoLRSState) -> Told:
        """Return the trial whose rate to take; the one of the smallest rate if all have failed."""
        usable = [point for point in told if not point.failed]
        if not usable:
            return min(told)
        scores = [point.loss for point in usable]
        if self.choose == "model":
            scores = searches.confirmed(usable, self._known(state), noisy=self.noisy)
        ranked = [point for _, point in sorted(zip(scores, usable, strict=True))]
        return ranked[0] if self.max_fall is None else self._held_up(ranked, state.chosen)

    def _held_up(self, ranked: list[Told], before: float) -> Told:
        """Return the best rate that is not too far below the one before, unless it is surpassed."""
        best, lowest = ranked[0], before / (self.max_fall or 1.0)
        near = next((point for point in ranked if self._rate(point.place) >= lowest), best)
        certain = _EVIDENCE * math.hypot(best.error, near.error)
        return best if best.loss < near.loss - certain else near

    def _known(self, state: AutoLRSState) -> list[Told]:
        """Return what the model remembers, less certain than it was."""
        points = (Told(*point) for point in state.known)
        return [point._replace(error=math.hypot(point.error, self.keep or 0.0)) for point in points]

    def _plan(self, view: StepView, state: AutoLRSState) -> Stage:
        """Return the stage that begins; the last one of a run of known length ends with it."""
        total_steps = view.total_steps if Need.HORIZON in self.needs else 0
        tau, tau_max = lengths(self.tau, self.tau_max, total_steps, self.ratio)
        plan, left = stage(state.num_stages, tau, tau_max, self.ratio), total_steps - view.step
        return plan._replace(tau=left) if 0 < left < 1.5 * plan.tau else plan

    def _ahead(self, view: StepView, plan: Stage) -> int:
        """Return the step to forecast, counted from the stage's start: none beyond the run."""
        at = round(self.look * plan.tau)
        left = view.total_steps - view.step if Need.HORIZON in self.needs else 0
        return min(at, left) if left >= plan.tau else at

    @property
    def _first(self) -> int:
        """The step at which the first search happens."""
        return self.warmup_steps + (self.steps == "published")

    def _before(self, view: StepView) -> float:
        """Return the rate of a step before the first search."""
        step = view.step + (self.steps == "exact")
        return self.warmup_lr * step / self.warmup_steps if step else view.sandbox.rate

    def _old(self, view: StepView, state: AutoLRSState) -> float:
        """Return the rate that the optimizer had where the stage began."""
        return view.sandbox.rate if state.lr is None else state.lr

    def _rate(self, place: float) -> float:
        """Return the rate at a place in [0, 1]."""
        low, high = math.log10(self.min_lr), math.log10(self.max_lr)
        return min(max(10 ** (low + place * (high - low)), self.min_lr), self.max_lr)
