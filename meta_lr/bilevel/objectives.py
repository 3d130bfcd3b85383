"""What of a trajectory is scored: a weighted sum of the meta losses after its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Objective(Protocol):
    """Gives each step of a window its weight."""

    def __call__(self, start: int, steps: int) -> tuple[float, ...]:
        """Return the weights of the meta losses after steps `start + 1` to `start + steps`."""
        ...


@dataclass(frozen=True)
class Final:
    """The meta loss after the window's last step: what MLR-SNet descends.

    >>> Final()(0, 3)
    (0.0, 0.0, 1.0)
    """

    def __call__(self, start: int, steps: int) -> tuple[float, ...]:
        """Return one for the last step."""
        return (0.0,) * (steps - 1) + (1.0,)


@dataclass(frozen=True)
class Mean:
    """The mean meta loss over the window, after each `every`-th step and the last.

    Args:
        every: Steps between scores; more is cheaper.

    >>> Mean(every=2)(0, 3)
    (0.0, 0.5, 0.5)
    """

    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"Mean got every={self.every}; it is at least 1 step")

    def __call__(self, start: int, steps: int) -> tuple[float, ...]:
        """Return equal weights."""
        scored = [k % self.every == 0 or k == steps for k in range(1, steps + 1)]
        return tuple(hit / sum(scored) for hit in scored)


@dataclass(frozen=True)
class LogArea:
    """The area under the meta loss against the logarithm of the step, over the window.

    A step late in the run weighs less, as it does to the eye on a logarithmic axis: the weights
    are log((t + 1/2) / (t - 1/2)) for step t, scaled to a sum of one.

    >>> [round(w, 3) for w in LogArea()(0, 3)]
    [0.565, 0.263, 0.173]
    """

    def __call__(self, start: int, steps: int) -> tuple[float, ...]:
        """Return weights that fall as one over the step."""
        raw = [math.log((t + 0.5) / (t - 0.5)) for t in range(start + 1, start + steps + 1)]
        return tuple(weight / sum(raw) for weight in raw)
