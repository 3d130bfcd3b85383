"""AutoLRS in our version: a grid of rates at the start of each stage, each judged at rate zero."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from meta_lr.methods.autolrs.grid import Grid, likely, start_of, with_errors
from meta_lr.methods.autolrs.round import AutoLRSState, Rule, Searcher, refuse_unusable
from meta_lr.methods.autolrs.stages import Stage, fall, lengths, stage
from meta_lr.methods.checks import refuse_counts
from meta_lr.methods.knee import rise
from meta_lr.protocol import Need, StepView
from meta_lr.seeds import derive


@dataclass(frozen=True)
class AutoLRS(Searcher):
    """Try k rates for a few steps each, and hold the one that promises most for tau steps.

    Update:
        at the start of each stage: k rates r_i in equal ratios; tau' = tau / ratio steps at r_i on
        a copy of model and optimizer, where the rate falls to zero in the end; the loss L_i after
        that. Then tau steps at the mean of the rates, each weighed by how probably L_i is the
        least. tau doubles from stage to stage up to tau_max; the stages after the first of that
        length read the validation loss. In the end of the run the rate falls to zero.
    Reference:
        Jin et al. 2021, arXiv 2105.10762; AutoLRSPaper is their version
    Deviations:
        1. stages are parts of the run, a tenth, two tenths and the rest; in the first the rate
        rises from zero, and in the last half of the run it falls to zero; no stage of such a plan
        reads the validation loss; 2. after a return to a stage's start the new rate holds at once;
        3. failed trials are stopped; 4. nothing is extrapolated: a trial's rate falls to zero in
        its second half, and it is judged by the loss after that, with an error; 5. the trials of a
        stage see the same batches; 6. rates that cannot be told apart are averaged; 7. from stage
        to stage the rate changes by no more than a factor, so that few trials are enough; 8. the
        rates that are tried are in equal ratios, as no search was found to choose better
    Cost:
        k tau / ratio steps per stage: by default a quarter of a run of 3,000 steps, a fifth of a
        long one, two thirds of one of 800 and more than all of one of 500, as no trial is shorter
        than 40: give `shortest` there

    A search happens inside one step of the run and is repeated if it is interrupted.

    Args:
        min_lr: The smallest rate.
        max_lr: The largest rate; both ends may be tried.
        tau: Length of the first stage, in steps; None: a tenth of the run, or `shortest`.
        tau_max: Length of the longest stage, in steps, to which they double; None: four tau. Where
            the run's length is known, its last stage takes all that is left of it.
        ratio: tau over a trial's steps.
        shortest: Steps of a trial, at least: in twenty from the start of a run no rate shows.
        trials: k, per stage.
        first_trials: Those of the first stage, which knows of no rate; None: as many.
        batches: By which the loss after a trial is known.
        anneal: Part of each trial in the end of which its rate falls linearly to zero, so that it
            is judged by what it has reached, and not by the noise that it makes; after the first
            stage all fall from the smallest rate that the stage may try.
        ramp: Whether the rate of the first stage is reached linearly from zero, or after a warm-up
            from warmup_lr, over tau steps: what a network bears for a few steps from its start may
            break it in some hundred.
        cooldown: Part of the run in the end of which the rate falls linearly to zero.
        stop_above: A trial fails if its loss rises over the stage's first by more than so many
            times that, and over the first one of all; None lets it run.
        max_change: The largest factor between the rate of a stage and those that the next one
            tries; None: any.
        warmup_steps: Steps that come before the first search.
        warmup_lr: To which the rate then rises, linearly.
        seed: Of the draws by which the rates are weighed.

    Raises:
        ValueError: An option is out of range.

    >>> method = AutoLRS(min_lr=1e-3, max_lr=1.0, warmup_steps=4, warmup_lr=0.2)
    >>> [method(StepView(method, step, total_steps=9), method.init())[0] for step in range(4)]
    [0.05, 0.1, 0.15000000000000002, 0.2]
    """

    tau: int | None = None
    tau_max: int | None = None
    ratio: int = 12
    shortest: int = 40
    trials: int = 3
    first_trials: int | None = 6
    batches: int = 8
    anneal: float = 0.5
    ramp: bool = True
    cooldown: float = 0.5
    stop_above: float | None = 3.0
    max_change: float | None = 2.0
    warmup_steps: int = 0
    warmup_lr: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        refuse_counts(self, 1, "ratio", "shortest", "trials", "batches")
        refuse_unusable(self, self._rules())

    def _rules(self) -> Iterator[Rule]:
        known = [length for length in (self.tau, self.tau_max) if length is not None]
        rising = all(length >= 1 for length in known) and known == sorted(known)
        yield ("tau", "tau_max"), rising, "1 <= tau <= tau_max, in steps, or null"
        fits = self.tau is None or self.shortest <= self.tau
        yield ("tau", "shortest"), fits, "a first stage that is no shorter than its trials"
        first, above, change = self.first_trials, self.stop_above, self.max_change
        yield ("first_trials",), first is None or first >= 1, "a whole number >= 1, or null"
        for name, whole in (("anneal", "a trial"), ("cooldown", "the run")):
            part = getattr(self, name)
            yield (name,), 0 <= part < 1, f"a part of {whole}: a number in [0, 1)"
        bounded = above is None or 0 < above < math.inf
        yield ("stop_above",), bounded, "a finite number > 0, or null"
        bounded = change is None or 1 < change < math.inf
        yield ("max_change",), bounded, "a finite factor > 1, or null"

    @cached_property
    def needs(self) -> Need:
        """Trials; and the run's length, if anything is a part of it."""
        return Need.TRIALS | (Need.HORIZON if self.tau is None or self.cooldown else Need.NOTHING)

    def __call__(self, view: StepView, state: AutoLRSState) -> tuple[float, AutoLRSState]:
        """Return the rate of this step; where a stage begins, search for it first."""
        if view.step < self.warmup_steps:
            lr = self.warmup_lr / self.warmup_steps * (view.step + 1)
        else:
            factor = self._fall(view)
            if view.step >= state.end and (factor == 1.0 or state.end < 0):
                state = self._search(view, state)
            lr = self._risen(view, state) * factor
        return lr, state._replace(lr=lr)

    def _search(self, view: StepView, state: AutoLRSState) -> AutoLRSState:
        """Return the state at the start of a stage, with the rate that its trials favour."""
        plan, (limit, state) = self._plan(view, state), self._limit(view, state)
        grid = Grid(self, view, state, plan, limit)
        told = with_errors(grid.search(grid.num_trials))
        rate = self.rate_at(likely(told, derive(self.seed, "likely", state.num_stages)))
        errors = [None if point.failed else point.error for point in told]
        view.sandbox.note(stage=state.num_stages, chosen=rate, errors=errors)
        return state.begun(view.step, view.step + plan.tau, rate, told)

    def _plan(self, view: StepView, state: AutoLRSState) -> Stage:
        """Return the stage that begins; the last one of a run of known length ends with it."""
        plan = stage(state.num_stages, *self._lengths(view), self.ratio, self.shortest)
        total_steps = self._horizon(view)
        left = total_steps - round(self.cooldown * total_steps) - view.step
        return plan._replace(tau=total_steps - view.step) if 0 < left < 1.5 * plan.tau else plan

    def _limit(self, view: StepView, state: AutoLRSState) -> tuple[float | None, AutoLRSState]:
        """Return the loss at which a trial has failed, and the state, which knows the first."""
        if self.stop_above is None:
            return None, state
        start = start_of(view.sandbox)
        first = start.mean if math.isnan(state.first_loss) else state.first_loss
        return start.limit(self.stop_above, first), state._replace(first_loss=first)

    def _lengths(self, view: StepView) -> tuple[int, int]:
        """Return tau of the first stage and of the longest one."""
        return lengths(self.tau, self.tau_max, self._horizon(view), self.shortest)

    def _horizon(self, view: StepView) -> int:
        """Return the run's length, 0 where nothing depends on it."""
        return view.total_steps if Need.HORIZON in self.needs else 0

    def _fall(self, view: StepView) -> float:
        """Return the factor on the rate that the end of the run brings."""
        return fall(view.step, view.total_steps, self.cooldown) if self.cooldown else 1.0

    def _risen(self, view: StepView, state: AutoLRSState) -> float:
        """Return the stage's rate; in the first one, what the rise to it has reached."""
        if not self.ramp or state.num_stages > 1:
            return state.chosen
        part = rise(view.step - state.begin, self._lengths(view)[0])
        return self.warmup_lr + part * (state.chosen - self.warmup_lr)
