"""AutoLRS: the rate that a search finds best for the steps ahead, stage by stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from meta_lr.methods.autolrs.options import PUBLISHED, refuse_unusable
from meta_lr.methods.autolrs.round import Round
from meta_lr.methods.autolrs.stages import Stage, fall, lengths, stage
from meta_lr.methods.knee import rise
from meta_lr.protocol import Need, StepView

__all__ = ["PUBLISHED", "AutoLRS", "AutoLRSState"]


class AutoLRSState(NamedTuple):
    """What AutoLRS knows between two steps.

    Attributes:
        lr: Of the step before.
        chosen: The rate of the present stage, 0 before the first.
        begin: The step at which the stage began, -1 before the first.
        end: The step at which the next one begins.
        first_loss: The run's loss just before the first search, nan before.
        first_mean: The mean loss over four batches where the first search began, nan before.
        num_stages: Begun so far.
        num_trials: Of all stages.
        num_failed: Of these.
    """

    lr: float | None = None
    chosen: float = 0.0
    begin: int = -1
    end: int = -1
    first_loss: float = math.nan
    first_mean: float = math.nan
    num_stages: int = 0
    num_trials: int = 0
    num_failed: int = 0


@dataclass(frozen=True)
class AutoLRS:
    """Try k rates for a few steps each, and hold the one that promises most for tau steps.

    Update:
        at the start of each stage, for i = 1 ... k: a rate r_i by the search; tau' = tau / ratio
        steps at r_i on a copy of model and optimizer; the loss L_i that this leads to. Then tau
        steps at the r_i of the least L_i, or where it is to be expected. tau doubles from stage
        to stage up to tau_max; the stages after the first of that length read the validation
        loss. As published, L_i is where an exponential through the losses of the trial is at tau.
        By default the rate falls to zero at the end of each trial, and L_i is the loss there.
    Reference:
        Jin et al. 2021, arXiv 2105.10762, and its published code
    Deviations:
        of the defaults, each an option that PUBLISHED (lr=autolrs_paper) takes back:
        1. stages are parts of the run, a tenth, two tenths and the rest; in the first the rate
        rises from zero, and in the last half of the run it falls to zero; the validation loss is
        for stages after the first one of four tenths, of which there are none; 2. after a return
        to a stage's start the new rate holds at once; 3. failed trials are stopped; 4. nothing is
        extrapolated: a trial's rate falls to zero in its second half, and it is judged by the loss
        after that, with an error; 5. the trials of a stage see the same batches; 6. rates that
        cannot be told apart are averaged; 7. from stage to stage the rate changes by no more than
        a factor, so that few trials are enough; 8. the rates that are tried are in equal ratios,
        as nothing was found that chooses better.
        Of PUBLISHED. At the published sizes it saves, restores, validates and sets the rate at the
        same steps as the authors' server and client, and forecasts from the same losses. Tests show
        it with scripted losses and rates, against a twin that is written from the behaviour of the
        two programs. It differs in this:
        1. kappa is 1000, from memory of the paper, which could not be read; the code has 1e6.
        2. The rates to try are alike, not equal: the Gaussian process and the search for its least
        bound are those of today's scikit-learn and SciPy. After 20 answers that are known already
        the next rate is random; the server goes on asking.
        3. The server ends with an error, or in one case goes on with a wrong loss, if a loss is NaN
        or infinite; and with an error if a fit has no unique answer or a forecast is huge. Here
        such a fit takes the least squares of smallest norm, and the process receives at most 1e6. A
        trial with a loss of 1e10 or more, or NaN, takes all its steps and is never chosen; if all
        trials are like that, the smallest of their rates is.
        4. Trials see batches that are drawn for them, not the next ones of the run, and the length
        of the run does not count their steps. They begin after the forward pass of the run's own
        step, which BatchNorm has seen.
        5. A validation loss is that of `val_batches` random batches, the same for all trials of a
        stage; the client takes whatever its user's function returns.
        6. All that is random follows from the seed; the authors set none.
        7. Groups of parameters keep their ratios; the client gives all of them the same rate.
        8. Sizes that were not published: where trials that validate have 32 to 47 steps, the client
        sets their rates one step later. Below 32 the server ends with an error there, and here a
        validation follows each step; it may also end in trials of less than 26 steps that do not
        validate. Where tau is no multiple of ratio, tau' is that of the doubled tau, rounded down.
    Cost:
        k tau / ratio steps per stage. By default a quarter of a run of 3,000 steps, a fifth of a
        long one, two thirds of one of 800 and more than all of one of 500, as no trial is shorter
        than 40: give `shortest` there. As published as many as are trained with, and with
        validation 16 k evaluations more

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
        search: How rates are tried: in equal ratios, at random, or where a Gaussian process has its
            least lower bound, with our bounds for its numbers or with those of the authors.
        kappa: Standard deviations from the process's mean to the lower bound; the paper has 1000
            (from memory), its code 1e6, with which nothing but the distance to other rates matters.
        initial: Rates tried before the process is asked, one at random in each of so many equal
            parts.
        choose: Take the rate of the least loss, or the mean of the rates (of their logarithms),
            each weighed by how probably it is the best; where they cannot be told apart, that is in
            the middle of those tried. Where losses are extrapolated there are no errors, and so
            both are the same.
        forecast: The loss after the trial, or, as published, where an exponential leads.
        batches: By which the loss after a trial is known, where that is what counts.
        anneal: Part of each trial in the end of which its rate falls linearly to zero, so that it
            is judged by what it has reached, and not by the noise that it makes; after the first
            stage all fall from the smallest rate that the stage may try. Of no effect where losses
            are extrapolated.
        ramp: Whether the rate of the first stage is reached linearly from zero, or after a warm-up
            from warmup_lr, over tau steps: what a network bears for a few steps from its start may
            break it in some hundred.
        cooldown: Part of the run in the end of which the rate falls linearly to zero.
        common_batches: Whether all trials of a stage train on the same batches.
        stop_above: A trial fails if its loss rises over the stage's first by more than so many
            times that, and over the first one of all; None lets it run.
        max_change: The largest factor between the rate of a stage and those that the next one
            tries; None: any.
        steps: How steps are counted: "exact"; or "published", where a rate is only set after a
            step, so the first one of the run, of each trial and of each stage is at the rate
            before, and a stage is two steps longer.
        val_guard: Whether a trial whose validation losses reach the run's first training loss
            counts with the last of them; of no effect where the loss after the trial counts.
        val_batches: Batches of each validation loss that is extrapolated, random ones, the same for
            all trials of a stage.
        warmup_steps: Steps that come before the first search.
        warmup_lr: To which the rate then rises, linearly.
        seed: Of the search.

    Raises:
        ValueError: An option is out of range.

    >>> method = AutoLRS(min_lr=1e-3, max_lr=1.0, warmup_steps=4, warmup_lr=0.2)
    >>> [method(StepView(method, step, total_steps=9), method.init())[0] for step in range(4)]
    [0.05, 0.1, 0.15000000000000002, 0.2]
    """

    min_lr: float
    max_lr: float
    tau: int | None = None
    tau_max: int | None = None
    ratio: int = 12
    shortest: int = 40
    trials: int = 3
    first_trials: int | None = 6
    search: Literal["grid", "random", "gp", "gp_published"] = "grid"
    kappa: float = 1.5
    initial: int = 3
    choose: Literal["least", "mean"] = "mean"
    forecast: Literal["end", "published"] = "end"
    batches: int = 8
    anneal: float = 0.5
    ramp: bool = True
    cooldown: float = 0.5
    common_batches: bool = True
    stop_above: float | None = 3.0
    max_change: float | None = 2.0
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
        """Trials; the run's length, if anything is a part of it; its loss, if that is a guard."""
        return (
            Need.TRIALS
            | (Need.HORIZON if self.tau is None or self.cooldown else Need.NOTHING)
            | (Need.LOSS if self._guards else Need.NOTHING)
        )

    def init(self) -> AutoLRSState:
        """Return the state before the first step."""
        return AutoLRSState()

    def __call__(self, view: StepView, state: AutoLRSState) -> tuple[float, AutoLRSState]:
        """Return the rate of this step; where a stage begins, search for it first."""
        if self._guards and view.step < max(self._first, 1):
            state = state._replace(first_loss=view.loss_item())
        if view.step < self._first:
            lr = self._before(view)
        else:
            if view.step >= state.end and (self._fall(view) == 1.0 or state.end < 0):
                state = self._search(view, state)
            lr = self._risen(view, state) * self._fall(view)
            if self.steps == "published" and view.step == state.begin:
                lr = self._old(view, state)
        return lr, state._replace(lr=lr)

    def rate_at(self, place: float) -> float:
        """Return the rate whose logarithm lies at a place in [0, 1] between those of both ends."""
        low, high = math.log10(self.min_lr), math.log10(self.max_lr)
        return min(max(10 ** (low + place * (high - low)), self.min_lr), self.max_lr)

    def _search(self, view: StepView, state: AutoLRSState) -> AutoLRSState:
        """Return the state at the start of a stage, with the rate that its trials favour."""
        plan = self._plan(view, state)
        found = Round(self, view, state, plan, self._old(view, state)).search()
        return state._replace(
            chosen=found.rate,
            first_mean=found.first_mean,
            begin=view.step,
            end=view.step + plan.tau + 2 * (self.steps == "published"),
            num_stages=state.num_stages + 1,
            num_trials=state.num_trials + len(found.told),
            num_failed=state.num_failed + sum(point.failed for point in found.told),
        )

    def _plan(self, view: StepView, state: AutoLRSState) -> Stage:
        """Return the stage that begins; the last one of a run of known length ends with it."""
        plan = stage(state.num_stages, *self._lengths(view), self.ratio, self.shortest)
        total_steps = self._horizon(view)
        left = total_steps - round(self.cooldown * total_steps) - view.step
        return plan._replace(tau=total_steps - view.step) if 0 < left < 1.5 * plan.tau else plan

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

    @property
    def _guards(self) -> bool:
        return self.val_guard and self.forecast == "published"

    @property
    def _first(self) -> int:
        """The step at which the first search happens."""
        return self.warmup_steps + (self.steps == "published")

    def _before(self, view: StepView) -> float:
        """Return the rate of a step before the first search."""
        step = view.step + (self.steps == "exact")
        return self.warmup_lr / self.warmup_steps * step if step else view.sandbox.rate

    def _old(self, view: StepView, state: AutoLRSState) -> float:
        """Return the rate that the optimizer had where the stage began."""
        return view.sandbox.rate if state.lr is None else state.lr
