"""Classic schedules with hand-tuned parameters: constant, cosine, multi-step and one-cycle."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import InitVar, dataclass

from meta_lr.protocol import Need, NoState, StepView


class Stateless:
    """Base class of controllers without state."""

    def init(self) -> NoState:
        """Return the state before the first step."""
        return NoState()


@dataclass(frozen=True)
class Constant(Stateless):
    """One learning rate for the whole run.

    Update:
        rate(t) = peak
    Reference:
        none
    Deviations:
        none; equals `torch.optim.lr_scheduler.ConstantLR` with factor 1.
    Cost:
        none

    >>> from meta_lr.protocol import NoState, StepView
    >>> policy = Constant(0.1)
    >>> policy(StepView(policy, 7), policy.init())[0]
    0.1
    """

    peak: float
    needs = Need.NOTHING

    def __post_init__(self) -> None:
        _require(0 <= self.peak < math.inf, self, "a finite peak >= 0")

    def __call__(self, view: StepView, state: NoState) -> tuple[float, NoState]:
        """Return the learning rate of this step, and the state."""
        return self.peak, state


@dataclass(frozen=True)
class Cosine(Stateless):
    """Half a cosine from `peak` down to `floor`.

    Update:
        rate(t) = floor + (peak - floor) (1 + cos(pi t / T)) / 2, with T = total_steps
    Reference:
        Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts
    Deviations:
        none up to step T; from step T on the learning rate is `floor`, while torch's
        `CosineAnnealingLR` rises again.
    Cost:
        none

    >>> from meta_lr.protocol import StepView
    >>> policy = Cosine(0.2)
    >>> policy(StepView(policy, 5, total_steps=10), policy.init())[0]
    0.1
    """

    peak: float
    floor: float = 0.0
    needs = Need.HORIZON

    def __post_init__(self) -> None:
        _require(0 <= self.floor <= self.peak < math.inf, self, "0 <= floor <= peak, both finite")

    def __call__(self, view: StepView, state: NoState) -> tuple[float, NoState]:
        """Return the learning rate of this step, and the state."""
        return _cosine(self.peak, self.floor, view.step / view.total_steps), state


@dataclass(frozen=True)
class MultiStep(Stateless):
    """Multiply the learning rate by `factor` at given fractions of the run.

    Update:
        rate(t) = peak * factor ** #{f in fractions: t >= round(f T)}, with T = total_steps
    Reference:
        He et al. 2016, arXiv 1512.03385, section 4.2, for the usual 1/2 and 3/4
    Deviations:
        the milestones are fractions of the run, rounded to steps (in torch's `MultiStepLR`, steps).
    Cost:
        none

    >>> from meta_lr.protocol import StepView
    >>> policy = MultiStep(0.5)
    >>> [policy(StepView(policy, t, total_steps=8), policy.init())[0] for t in (3, 4, 6)]
    [0.5, 0.05, 0.005000000000000001]
    """

    peak: float
    fractions: Sequence[float] = (0.5, 0.75)
    factor: float = 0.1
    milestones: InitVar[Sequence[float] | None] = None  # the former name of `fractions`
    needs = Need.HORIZON

    def __post_init__(self, milestones: Sequence[float] | None) -> None:
        if milestones is not None:
            advice = "MultiStep(milestones=...) is MultiStep(fractions=...) now: parts of the run"
            warnings.warn(advice, FutureWarning, stacklevel=3)
        given = self.fractions if milestones is None else milestones
        object.__setattr__(self, "fractions", tuple(given))
        _require(0 <= self.peak < math.inf, self, "a finite peak >= 0")
        _require(0 < self.factor < math.inf, self, "a finite factor > 0")
        _require(all(0 <= f <= 1 for f in self.fractions), self, "fractions in [0, 1]")

    def __call__(self, view: StepView, state: NoState) -> tuple[float, NoState]:
        """Return the learning rate of this step, and the state."""
        passed = sum(view.step >= round(f * view.total_steps) for f in self.fractions)
        return self.peak * self.factor**passed, state


@dataclass(frozen=True)
class OneCycle(Stateless):
    """Rise to `peak` along a cosine, then fall almost to zero along a cosine.

    Update:
        with T = total_steps, up = pct_start T - 1, end = T - 1, low = peak / div_factor:
        rate(t) = cosine from low at t = 0 to peak at t = up, for t <= up,
                  cosine from peak at t = up to low / final_div_factor at t = end, after it
    Reference:
        Smith & Topin 2019, arXiv 1708.07120, in the form of torch's `OneCycleLR`
    Deviations:
        1. momentum does not change (torch: `cycle_momentum=False`);
        2. from step T on the last learning rate is kept; torch raises an error;
        3. without a rise (up <= 0) it begins at the peak; torch divides by zero at up = 0.
    Cost:
        none

    >>> from meta_lr.protocol import StepView
    >>> policy = OneCycle(1.0)
    >>> [round(policy(StepView(policy, t, total_steps=10), ())[0], 4) for t in (0, 2, 9)]
    [0.04, 1.0, 0.0]
    """

    peak: float
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    needs = Need.HORIZON

    def __post_init__(self) -> None:
        _require(0 <= self.peak < math.inf, self, "a finite peak >= 0")
        _require(0 <= self.pct_start <= 1, self, "pct_start in [0, 1]")
        _require(min(self.div_factor, self.final_div_factor) > 0, self, "divisors > 0")

    def __call__(self, view: StepView, state: NoState) -> tuple[float, NoState]:
        """Return the learning rate of this step, and the state."""
        up, end = self.pct_start * view.total_steps - 1, view.total_steps - 1
        low = self.peak / self.div_factor
        if view.step <= up and up > 0:
            return _cosine(low, self.peak, view.step / up), state
        progress = (view.step - up) / (end - up) if end > up else 1.0
        return _cosine(self.peak, low / self.final_div_factor, progress), state


def _cosine(start: float, end: float, progress: float) -> float:
    """Return the value on half a cosine from `start` to `end`; from progress 1 on it is `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def _require(holds: bool, policy: object, needed: str) -> None:
    if not holds:
        raise ValueError(f"{policy} is out of range; it needs {needed}")
