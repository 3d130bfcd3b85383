"""AutoLRS as published: a Gaussian process chooses rates, and an exponential forecasts losses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meta_lr.methods.autolrs.forecast import published
from meta_lr.methods.autolrs.gaussian_process import next_place
from meta_lr.methods.autolrs.round import (
    AutoLRSState,
    Round,
    Rule,
    Searcher,
    Told,
    refuse_unusable,
    usable,
)
from meta_lr.methods.autolrs.stages import stage
from meta_lr.methods.autolrs.trials import Seen, losses_on_the_way
from meta_lr.methods.checks import refuse_counts
from meta_lr.protocol import Need, StepView
from meta_lr.seeds import derive


@dataclass(frozen=True)
class AutoLRSPaper(Searcher):
    """AutoLRS as published: Bayesian search of each stage's rate by losses that are extrapolated.

    Update:
        at the start of each stage, for i = 1 ... k: a rate r_i, at which a Gaussian process has its
        least bound, mean - kappa * deviation; tau' = tau / ratio steps at r_i on a copy of model
        and optimizer; L_i where an exponential through their losses is at tau. Then tau steps at
        the r_i of the least L_i. tau doubles from stage to stage up to tau_max; the stages after
        the first of that length read the validation loss.
    Reference:
        Jin et al. 2021, arXiv 2105.10762, and its published code
    Deviations:
        At the published sizes it saves, restores, validates and sets the rate at the same steps as
        the authors' server and client, and forecasts from the same losses. Tests show it with
        scripted losses and rates, against a twin that is written from the behaviour of the two
        programs. It differs in this:
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
        k tau / ratio steps per stage, by default as many as are trained with, and with validation
        16 k evaluations more

    A rate is only set after a step, as published: the first step of the run, of each trial and of
    each stage is at the rate before, and a stage is two steps longer than tau. A search happens
    inside one step of the run and is repeated if it is interrupted.

    Args:
        min_lr: The smallest rate.
        max_lr: The largest rate; both ends may be tried.
        tau: Length of the first stage, in steps.
        tau_max: Length of the longest stage, in steps, to which they double.
        ratio: tau over a trial's steps.
        trials: k, per stage.
        kappa: Standard deviations from the process's mean to the lower bound; with that of the
            published code, 1e6, nothing but the distance to other rates matters.
        val_batches: Batches of each validation loss.
        warmup_steps: Steps that come before the first search.
        warmup_lr: To which the rate then rises, linearly.
        seed: Of the search.

    Raises:
        ValueError: An option is out of range.

    >>> import torch
    >>> method = AutoLRSPaper(min_lr=1e-3, max_lr=1.0, warmup_steps=4, warmup_lr=0.2)
    >>> views = [StepView(method, step, loss=torch.ones(())) for step in range(1, 5)]
    >>> [method(view, method.init())[0] for view in views]
    [0.05, 0.1, 0.15000000000000002, 0.2]
    """

    tau: int = 1000
    tau_max: int = 8000
    ratio: int = 10
    trials: int = 10
    kappa: float = 1000.0
    val_batches: int = 1
    warmup_steps: int = 0
    warmup_lr: float = 0.0
    seed: int = 0
    needs = Need.TRIALS | Need.LOSS

    def __post_init__(self) -> None:
        refuse_counts(self, 1, "ratio", "trials", "val_batches")
        refuse_unusable(self, self._rules())

    def _rules(self) -> Iterator[Rule]:
        rising = 1 <= self.tau <= self.tau_max
        yield ("tau", "tau_max"), rising, "1 <= tau <= tau_max, in steps"
        yield ("kappa",), 0 <= self.kappa < math.inf, "a finite number >= 0"
        plan = stage(0, self.tau, self.tau_max, self.ratio)
        needed = (
            "trials of two steps or more, because the first step keeps the earlier learning rate"
        )
        yield ("tau", "ratio"), plan.trial > 1, needed

    def __call__(self, view: StepView, state: AutoLRSState) -> tuple[float, AutoLRSState]:
        """Return the rate of this step; where a stage begins, search for the one to come."""
        if view.step <= self.warmup_steps:
            lr, state = self._warm(view), state._replace(first_loss=view.loss_item())
        elif view.step >= state.end:
            lr = view.sandbox.rate if state.lr is None else state.lr
            state = self._search(view, state, old=lr)
        else:
            lr = state.chosen
        return lr, state._replace(lr=lr)

    def _search(self, view: StepView, state: AutoLRSState, old: float) -> AutoLRSState:
        """Return the state at the start of a stage, with the rate that its trials favour."""
        plan = stage(state.num_stages, self.tau, self.tau_max, self.ratio)
        search = Bayesian(self, view, state, plan, old)
        told = search.search(self.trials)
        rate = self.rate_at(search.best(told))
        view.sandbox.note(stage=state.num_stages, chosen=rate)
        return state.begun(view.step, view.step + plan.tau + 2, rate, told)

    def _warm(self, view: StepView) -> float:
        """Return the rate of a step of the warm-up; its first is at the optimizer's own rate."""
        return self.warmup_lr / self.warmup_steps * view.step if view.step else view.sandbox.rate


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
        return min(usable(told), key=lambda point: point.loss).place

    def _rates(self, rate: float, index: int) -> list[float]:
        """Return those of a trial's steps: the first is at the rate before, or is one more."""
        num_steps = self.plan.trial
        if self.state.num_stages + index == 0:
            return [rate] * (num_steps + 1)
        return [self.old] + [rate] * (num_steps - 1)
