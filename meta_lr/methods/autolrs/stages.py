"""AutoLRS's plan: how long its stages and their trials are, and where the rate falls to zero."""

from __future__ import annotations

from typing import NamedTuple

_POINTS = 16  # validation losses that a trial has, or a few more


class Stage(NamedTuple):
    """One stage of a run."""

    tau: int  # steps at the learning rate that is chosen
    trial: int  # steps of each trial
    period: int  # steps between a trial's validation losses; 0 if it reads training losses

    @property
    def num_validations(self) -> int:
        """Validation losses of each trial, 0 where it reads training losses."""
        return self.trial // self.period if self.period else 0

    def validates(self, taken: int, num_seen: int) -> bool:
        """Return whether a trial that has taken so many steps reads a validation loss.

        The published counter begins a trial at 1, not at 0. So each validation comes one step
        before a multiple of the period.

        >>> [step for step in range(1, 801) if Stage(8000, 800, 50).validates(step, 0)][:3]
        [49, 99, 149]
        """
        return num_seen < self.num_validations and (taken + 1) % self.period == 0


def stage(index: int, tau: int, tau_max: int, ratio: int = 10, shortest: int = 1) -> Stage:
    """Return the stage of number `index`: tau doubles until it is tau_max, a trial is tau / ratio.

    It ends beyond tau_max if that is not reached by doubling. All stages until the first of the
    last length, and that one, read the training loss. Those after it read the validation loss
    every trial // 16 steps, or after each step of a shorter trial. No trial is shorter than
    `shortest`.

    >>> [stage(index, 1000, 8000).tau for index in range(5)]
    [1000, 2000, 4000, 8000, 8000]
    >>> stage(3, 1000, 8000), stage(4, 1000, 8000)
    (Stage(tau=8000, trial=800, period=0), Stage(tau=8000, trial=800, period=50))
    """
    num_doubled = 0
    while num_doubled < index and tau < tau_max:
        tau, num_doubled = 2 * tau, num_doubled + 1
    trial = max(shortest, tau // ratio)
    return Stage(tau, trial, max(1, trial // _POINTS) if index > num_doubled else 0)


def lengths(
    tau: int | None, tau_max: int | None, total_steps: int, shortest: int = 1
) -> tuple[int, int]:
    """Return the shortest and the longest stage, None by default.

    By default the first is a tenth of the run, though no shorter than a trial, and the longest
    four of these: three stages, where the rate falls in the last half of the run.

    >>> lengths(None, None, 64_000), lengths(None, 500, 800), lengths(50, None, 0)
    ((6400, 25600), (80, 500), (50, 200))
    """
    if tau is None:
        tau = max(shortest, total_steps // 10)
        tau = tau if tau_max is None else min(tau, tau_max)
    return tau, 4 * tau if tau_max is None else tau_max


def fall(step: int, total_steps: int, part: float) -> float:
    """Return the factor on a rate that falls linearly to zero over the last `part` of the steps.

    >>> [fall(step, 8, 0.5) for step in range(9)]
    [1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    """
    return min(1.0, max(0.0, (total_steps - step) / (round(part * total_steps) + 1)))
