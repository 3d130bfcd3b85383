"""What both versions of AutoLRS share: the range of the rates, and the state of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from meta_lr.methods.autolrs.round import Told


class AutoLRSState(NamedTuple):
    """What AutoLRS knows between two steps.

    Attributes:
        lr: Of the step before.
        chosen: The rate of the present stage, 0 before the first.
        begin: The step at which the stage began, -1 before the first.
        end: The step at which the next one begins.
        first_loss: Where the first search began: the mean training loss over four batches, or, as
            published, that of the run's step before; nan before, and if nobody asked.
        num_stages: Begun so far.
        num_trials: Of all stages.
        num_failed: Of these.
    """

    lr: float | None = None
    chosen: float = 0.0
    begin: int = -1
    end: int = -1
    first_loss: float = math.nan
    num_stages: int = 0
    num_trials: int = 0
    num_failed: int = 0

    def begun(self, begin: int, end: int, chosen: float, told: Sequence[Told]) -> AutoLRSState:
        """Return the state at the start of a stage, after its trials."""
        return self._replace(
            chosen=chosen,
            begin=begin,
            end=end,
            num_stages=self.num_stages + 1,
            num_trials=self.num_trials + len(told),
            num_failed=self.num_failed + sum(point.failed for point in told),
        )


@dataclass(frozen=True)
class Searcher:
    """A method that tries rates from `min_lr` to `max_lr`."""

    min_lr: float
    max_lr: float

    def init(self) -> AutoLRSState:
        """Return the state before the first step."""
        return AutoLRSState()

    def rate_at(self, place: float) -> float:
        """Return the rate whose logarithm lies at a place in [0, 1] between those of both ends."""
        low, high = math.log10(self.min_lr), math.log10(self.max_lr)
        return min(max(10 ** (low + place * (high - low)), self.min_lr), self.max_lr)
