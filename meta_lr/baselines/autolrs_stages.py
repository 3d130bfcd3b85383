"""AutoLRS's plan: how long its stages and their trials are, and which loss they read."""

from __future__ import annotations

from typing import NamedTuple

POINTS = 16  # validation losses of a trial
_SHORTEST = 20  # steps of a trial in a stage whose length follows from the run's


class Stage(NamedTuple):
    """One stage of a run.

    Attributes:
        tau: Steps at the rate that is chosen.
        trial: Steps of each trial.
        period: Steps between a trial's validation losses, 0 where it reads training losses.
    """

    tau: int
    trial: int
    period: int


def stage(index: int, tau: int, tau_max: int, ratio: int = 10) -> Stage:
    """Return the stage of number `index`: tau doubles up to tau_max, a trial is tau / ratio.

    All stages until the first that is tau_max long, and that one, read the training loss; those
    after it read the validation loss 16 times per trial, or after each step of a shorter one.

    >>> [stage(index, 1000, 8000).tau for index in range(5)]
    [1000, 2000, 4000, 8000, 8000]
    >>> stage(3, 1000, 8000), stage(4, 1000, 8000)
    (Stage(tau=8000, trial=800, period=0), Stage(tau=8000, trial=800, period=50))
    """
    num_doubled = 0
    while num_doubled < index and tau < tau_max:
        tau, num_doubled = min(2 * tau, tau_max), num_doubled + 1
    trial = max(1, tau // ratio)
    return Stage(tau, trial, max(1, trial // POINTS) if index > num_doubled else 0)


def lengths(
    tau: int | None, tau_max: int | None, total_steps: int, ratio: int = 10
) -> tuple[int, int]:
    """Return the shortest and the longest stage; None is an eighth of the next longer length.

    That is of the run for tau_max, and of tau_max for tau: as in a run of 64,000 steps with the
    published 1000 and 8000, whose stages are then the same parts of it. But no stage is chosen so
    short that its trials have fewer than 20 steps: momentum alone hides for ten what a rate does.

    >>> lengths(None, None, 64_000), lengths(None, None, 800), lengths(50, 400, 0)
    ((1000, 8000), (200, 200), (50, 400))
    """
    least = _SHORTEST * ratio
    if tau_max is None:
        tau_max = max(total_steps // 8, least, tau or 0)
    return tau or min(max(tau_max // 8, least), tau_max), tau_max
