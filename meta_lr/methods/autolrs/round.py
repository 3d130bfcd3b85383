"""The search at the start of a stage: trials, one after the other, and what each found."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meta_lr.methods.autolrs.base import AutoLRSState, Searcher
from meta_lr.methods.autolrs.stages import Stage
from meta_lr.methods.autolrs.trials import Seen
from meta_lr.protocol import StepView


class Told(NamedTuple):
    """What a trial found.

    Attributes:
        place: Of its rate in [0, 1]: its logarithm between those of both ends.
        loss: That it promises; infinity if it has failed.
        error: Standard deviation of its error, as far as others do not share it; 0 if not known.
        seen: In the trial.
    """

    place: float
    loss: float
    error: float = 0.0
    seen: Seen = Seen()

    @property
    def failed(self) -> bool:
        """Whether it promises nothing."""
        return math.isinf(self.loss)


@dataclass(frozen=True)
class Round(ABC):
    """The search of one stage.

    Args:
        method: Its options.
        view: Of the step at which the stage begins.
        state: Before it.
        plan: Of the stage.
    """

    method: Searcher
    view: StepView
    state: AutoLRSState
    plan: Stage

    @abstractmethod
    def ask(self, told: Sequence[Told]) -> float:
        """Return the place of the next rate to try."""

    @abstractmethod
    def attempt(self, rate: float, index: int) -> Seen:
        """Train a copy at a rate, as the trial of that number; return what it sees."""

    @abstractmethod
    def forecast(self, seen: Seen) -> float:
        """Return the loss that a trial promises which has not failed."""

    def search(self, num_trials: int) -> list[Told]:
        """Try so many rates; return what each trial found."""
        told = list[Told]()
        for index in range(num_trials):
            place = self.ask(told)
            seen = self.attempt(self.method.rate_at(place), index)
            told.append(Told(place, math.inf if seen.failed else self.forecast(seen), seen=seen))
            self._note(index, told[-1])
        return told

    def _note(self, index: int, told: Told) -> None:
        self.view.sandbox.note(
            stage=self.state.num_stages,
            trial=index,
            rate=self.method.rate_at(told.place),
            loss=None if told.failed else told.loss,
            steps=told.seen.num_steps,
            failed=told.failed,
            start=told.seen.start,
        )
