"""Objectives of meta-training: weighted sums of the meta losses after the steps of a window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Objective(Protocol):
    """Gives each step of a window its weight."""

    def __call__(self, start: int, steps: int, *, ends: bool = False) -> tuple[float, ...]:
        """Return the weights of the meta losses after steps `start + 1` to `start + steps`.

        Args:
            start: Steps of the run before the window.
            steps: Steps of the window.
            ends: Whether the run ends with this window.
        """
        ...


@dataclass(frozen=True)
class Final:
    """The meta loss after the window's last step: the objective of MLR-SNet.

    >>> Final()(0, 3)
    (0.0, 0.0, 1.0)
    """

    def __call__(self, start: int, steps: int, *, ends: bool = False) -> tuple[float, ...]:
        """Return weight 1 for the last step, and 0 for the others."""
        return (0.0,) * (steps - 1) + (1.0,)


@dataclass(frozen=True)
class End:
    """The mean meta loss over the last steps of the run; windows before them are not scored.

    Use it with an estimator that includes the effect of earlier windows (`PersistentES`), or with
    windows as long as the run. Truncated back-propagation learns only from each run's last window.

    Args:
        last: Number of last steps in the mean, each with its own meta batch.

    >>> End(last=2)(0, 3), End(last=2)(0, 3, ends=True)
    ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5))
    """

    last: int = 8

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(f"End got last={self.last}; it is at least 1 step")

    def __call__(self, start: int, steps: int, *, ends: bool = False) -> tuple[float, ...]:
        """Return equal weights for the last steps of the run."""
        count = min(self.last, steps) if ends else 0
        return (0.0,) * (steps - count) + (1.0 / max(count, 1),) * count


@dataclass(frozen=True)
class Mean:
    """The mean meta loss over the window, after each `every`-th step and the last.

    Args:
        every: Steps between scores; more is cheaper.

    >>> Mean(every=2)(0, 3)
    (0.0, 0.5, 0.5)
    """

    every: int = 10

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"Mean got every={self.every}; it is at least 1 step")

    def __call__(self, start: int, steps: int, *, ends: bool = False) -> tuple[float, ...]:
        """Return equal weights."""
        scored = [k % self.every == 0 or k == steps for k in range(1, steps + 1)]
        return tuple(hit / sum(scored) for hit in scored)


@dataclass(frozen=True)
class LogArea:
    """The area under the meta loss against the logarithm of the step, over the window.

    Late steps have smaller weights, as on a plot with a logarithmic axis. The weight of step t is
    log((t + 1/2) / (t - 1/2)), scaled so that the weights sum to one.

    >>> [round(w, 3) for w in LogArea()(0, 3)]
    [0.565, 0.263, 0.173]
    """

    def __call__(self, start: int, steps: int, *, ends: bool = False) -> tuple[float, ...]:
        """Return weights that fall about as 1 / step."""
        raw = [math.log((t + 0.5) / (t - 0.5)) for t in range(start + 1, start + steps + 1)]
        return tuple(weight / sum(raw) for weight in raw)
