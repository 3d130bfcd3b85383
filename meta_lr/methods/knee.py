"""Knee: explore at the peak, then decay linearly to zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

from meta_lr.methods.basic import Stateless
from meta_lr.protocol import Need, NoState, StepView


@dataclass(frozen=True)
class Knee(Stateless):
    """Keep the peak for half of the run, to find wide minima, then decay linearly to zero.

    Update:
        with s = t + 1, T = total_steps, W = round(warmup T), E = round(explore T):
        rate(t) = peak s / W                  for s <= W,
                  peak                        for s <= W + E,
                  peak (T - s) / (T - W - E)  after it
    Reference:
        Iyer et al. 2020, arXiv 2003.03977, and its published code
    Deviations:
        1. warm-up and explore phase are fractions of the run, rounded to steps (their code: steps);
        2. parameter groups keep their ratios; the code writes one learning rate to all groups.
    Cost:
        none

    Args:
        peak: The highest learning rate.
        warmup: Fraction of the run in which the learning rate rises to the peak.
        explore: Fraction of the run at the peak, after the warm-up. The authors recommend one half
            if it is not tuned.

    Raises:
        ValueError: An argument is out of range.

    >>> from meta_lr.protocol import StepView
    >>> policy = Knee(0.4, warmup=0.2, explore=0.4)
    >>> [policy(StepView(policy, t, total_steps=10), policy.init())[0] for t in (0, 1, 5, 7, 9)]
    [0.2, 0.4, 0.4, 0.2, 0.0]
    """

    peak: float
    warmup: float = 0.0
    explore: float = 0.5
    needs = Need.HORIZON

    def __post_init__(self) -> None:
        if not 0 <= self.peak < math.inf:
            raise ValueError(f"{self} is out of range; it needs a finite peak >= 0")
        refuse_parts(self, self.warmup, self.explore)

    def __call__(self, view: StepView, state: NoState) -> tuple[float, NoState]:
        """Return the learning rate of this step, and the state."""
        warmup, end = phases(view.total_steps, self.warmup, self.explore)
        if view.step < end:
            return self.peak * rise(view.step, warmup), state
        left = max(0, view.total_steps - view.step - 1)
        return self.peak * left / max(1, view.total_steps - end), state


def phases(total_steps: int, warmup: float, explore: float) -> tuple[int, int]:
    """Return the steps at which the warm-up and the explore phase end.

    >>> phases(10, 0.2, 0.4), phases(10, 0.0, 0.5)
    ((2, 6), (0, 5))
    """
    risen = round(warmup * total_steps)
    return risen, risen + round(explore * total_steps)


def rise(step: int, warmup: int) -> float:
    """Return the factor of the peak at a step, for a warm-up of `warmup` steps.

    >>> [rise(step, 2) for step in range(3)]
    [0.5, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def refuse_parts(policy: object, warmup: float, explore: float) -> None:
    """Raise a ValueError unless both are fractions of a run and their sum is at most 1."""
    if not (warmup >= 0 and explore >= 0 and warmup + explore <= 1):
        raise ValueError(
            f"{type(policy).__name__} got warmup={warmup}, explore={explore}; "
            "it needs parts of the run, both >= 0, together at most 1"
        )
