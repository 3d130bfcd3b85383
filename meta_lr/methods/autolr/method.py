"""AutoLR, reconstructed: explore at a seed learning rate, then fit the loss along the update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from meta_lr.methods.autolr.fit import damped, fit
from meta_lr.methods.autolr.seed import sweep
from meta_lr.methods.checks import refuse_counts
from meta_lr.methods.knee import phases, refuse_parts, rise
from meta_lr.protocol import Need, StepView
from meta_lr.training.line import line


class AutoLRState(NamedTuple):
    """The learning rate without its warm-up, and counts."""

    lr: float = 0.0  # 0, then the seed's; in the exploit phase that of the last accepted fit
    num_fits: int = 0  # in both phases
    num_accepted: int = 0  # accepted fits; in the exploit phase they set the learning rate


@dataclass(frozen=True)
class AutoLR:
    """A reconstruction: explore at the seed learning rate, then follow local quadratic fits.

    Neither the method's code nor its full text is public. It is known that there is a seed learning
    rate and an explore phase of given length, and that the method works with any optimizer. The
    rest is our choice.

    Update:
        rate = seed_rate, after a warm-up, for the share `explore` of the run. Then, every `period`
        steps, with u what the optimizer subtracts per unit of rate (momentum, preconditioning and
        decay included): l(m) = mean loss over `batches` new batches at w - m rate u, for m in
        `multiples`; a m^2 + b m + c by least squares. If a > 0 > b, R^2 >= least_r2 and, if given,
        the optimum's standard error over the batches is at most `most_error` of it:
        rate <- (1 - damping) rate + damping rate clip(-b / (2 a), 1 / trust, trust);
        with `shrink` also if a > 0 <= b, where the clipped value is 1 / trust
    Reference:
        Iyer et al. 2019, AutoLR, and its revision LRTuner; only the abstracts are known. The
        explore phase is that of their Knee, arXiv 2003.03977. Fit, clipping and damping are as in
        GeN, Bu & Xu 2024, arXiv 2407.02772
    Deviations:
        unknown, as this is a reconstruction. Probes, batches, period, R^2, damping and trust region
        are our choices. Vary them before you draw a conclusion about AutoLR.
    Cost:
        `batches` x len(multiples) forward passes per `period` steps, in both phases: by default
        10 x 4 / (3 x 100) = 13 % of the run; without a seed rate, up to 100 steps more

    The run's record holds each fit: its R^2, whether it is accepted, its optimum with the standard
    error, and its mean losses. It also holds the fits of the explore phase, which do not change
    the learning rate.

    On digits with wrong labels the learning rate rises in the exploit phase. The method then scores
    below a Knee with the same explore phase, and below its constant seed learning rate
    (`docs/results`). The optimum of one step is too high for many steps, and a few batches estimate
    it poorly.

    Args:
        seed_rate: Learning rate of the explore phase. None takes it from a sweep of 100 steps from
            1e-5 to 10 on a copy, at the start of the run: a tenth of the learning rate with the
            lowest loss.
        warmup: Fraction of the run in which the learning rate rises to the seed.
        explore: Fraction of the run at the seed learning rate, after the warm-up.
        period: Steps between fits; one fit is at the first step of the exploit phase.
        batches: Number of batches whose losses are averaged, the same for all multiples.
        multiples: Multiples of the present learning rate at which the loss is measured, at least
            three. A quadratic always fits three points, so R^2 is informative only from four on.
        least_r2: Smallest R^2 of an accepted fit.
        most_error: Largest standard error of the optimum over the batches, relative to the optimum;
            None accepts any. On a noisy quadratic, all fits that 0.02 accepts are within 5 % of the
            minimiser. On digits, 0.1 accepts almost no fit, and this is better than following them.
        damping: Share of the distance to the optimum that the learning rate moves, in (0, 1].
        trust: Largest factor between the present learning rate and an accepted optimum.
        shrink: Whether a fit with its minimum at a negative multiple, where any step raises the
            loss, lowers the learning rate. False keeps the learning rate.
        fresh: Whether new batches are drawn for the fit. False uses the batch that the direction
            was computed on; this is for an ablation, because on this batch large learning rates
            look better than they are.

    Raises:
        ValueError: An argument is out of range. In a run: the sweep shows no seed learning rate.

    >>> method = AutoLR(seed_rate=0.2, warmup=0.2, explore=0.4, period=3)
    >>> [step for step in range(12) if method.is_due(step, total_steps=10)]
    [3, 6, 9]
    """

    seed_rate: float | None = None
    warmup: float = 0.0
    explore: float = 0.5
    period: int = 100
    batches: int = 10
    multiples: Sequence[float] = (0.0, 0.5, 1.0, 2.0)
    least_r2: float = 0.9
    most_error: float | None = None
    damping: float = 0.5
    trust: float = 2.0
    shrink: bool = False
    fresh: bool = True
    needs = Need.PARAMS | Need.DIRECTION | Need.TRIALS | Need.HORIZON

    def __post_init__(self) -> None:
        object.__setattr__(self, "multiples", tuple(map(float, self.multiples)))
        refuse_parts(self, self.warmup, self.explore)
        refuse_counts(self, 1, "period", "batches")
        seed, error = self.seed_rate, self.most_error
        known = all(map(math.isfinite, self.multiples))
        for name, holds, needed in (
            ("seed_rate", seed is None or 0 < seed < math.inf, "a finite number > 0, or null"),
            ("multiples", known and len(set(self.multiples)) >= 3, "three finite ones or more"),
            ("least_r2", self.least_r2 <= 1, "a number <= 1"),
            ("most_error", error is None or error > 0, "a share > 0, or null"),
            ("batches", error is None or self.batches > 1, "two or more to know an error"),
            ("damping", 0 < self.damping <= 1, "a number in (0, 1]"),
            ("trust", 1 < self.trust < math.inf, "a finite factor > 1"),
            ("batches", self.fresh or self.batches == 1, "to be 1 with fresh=false"),
        ):
            if not holds:
                raise ValueError(f"AutoLR got {name}={getattr(self, name)}; it needs {needed}")

    def init(self) -> AutoLRState:
        """Return the state before the first step."""
        return AutoLRState()

    def __call__(self, view: StepView, state: AutoLRState) -> tuple[float, AutoLRState]:
        """Return the learning rate of this step, and the next state."""
        if state.lr == 0.0:
            state = state._replace(lr=self._seed(view))
        if self.is_due(view.step, view.total_steps):
            state = self._fitted(view, state)
        risen, _ = phases(view.total_steps, self.warmup, self.explore)
        return state.lr * rise(view.step, risen), state

    def is_due(self, step: int, total_steps: int) -> bool:
        """Return whether a fit is made before this step; there is no fit in the warm-up."""
        risen, explored = phases(total_steps, self.warmup, self.explore)
        return step >= risen and (step - explored) % self.period == 0

    def _seed(self, view: StepView) -> float:
        if self.seed_rate is not None:
            return self.seed_rate
        found = sweep(view.sandbox)
        view.sandbox.note(what="seed", lr=found)
        return found

    def _fitted(self, view: StepView, state: AutoLRState) -> AutoLRState:
        """Return the state after a fit; in the exploit phase the fit sets the learning rate."""
        losses = self._losses(view, state.lr)
        found = fit(self.multiples, losses)
        accepted = found.is_trusted(self.least_r2, self.most_error, behind=self.shrink)
        exploits = view.step >= phases(view.total_steps, self.warmup, self.explore)[1]
        view.sandbox.note(
            what="fit",
            phase="exploit" if exploits else "explore",
            lr=state.lr,
            r2=found.r2,
            error=found.error * state.lr,
            accepted=accepted,
            optimum=found.optimum * state.lr,
            losses=[fmean(each) for each in losses],
        )
        lr = state.lr
        if accepted and exploits:
            lr = damped(lr, found.optimum, self.damping, self.trust)
        return AutoLRState(lr, state.num_fits + 1, state.num_accepted + accepted)

    def _losses(self, view: StepView, lr: float) -> list[list[float]]:
        """Return the losses after a step with each multiple of the learning rate, on each batch."""
        draws = range(self.batches) if self.fresh else (None,)
        return line(view).losses([multiple * lr for multiple in self.multiples], draws)
