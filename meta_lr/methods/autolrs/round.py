"""What both versions of AutoLRS share: the state of a run, and the search at a stage's start."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from meta_lr.methods.autolrs.stages import Stage
from meta_lr.methods.autolrs.trials import Seen
from meta_lr.protocol import StepView


class Told(NamedTuple):
    """What a trial found."""

    place: float  # of its learning rate, see `Searcher.rate_at`
    loss: float  # expected loss at the end of the stage; infinity if the trial has failed
    error: float = 0.0  # standard deviation of the part that other trials do not share; 0: unknown
    seen: Seen = Seen()

    @property
    def failed(self) -> bool:
        """Whether the trial has failed."""
        return math.isinf(self.loss)


def usable(told: Sequence[Told]) -> list[Told]:
    """Return the trials that have not failed; if all have, the one at the smallest rate."""
    return [point for point in told if not point.failed] or [min(told, key=lambda p: p.place)]


class AutoLRSState(NamedTuple):
    """What AutoLRS knows between two steps."""

    lr: float | None = None  # the learning rate of the step before
    chosen: float = 0.0  # the learning rate of the present stage; 0 before the first stage
    begin: int = -1  # step at which the stage began; -1 before the first stage
    end: int = -1  # step at which the next stage begins
    # Where the first search began: the mean training loss over four batches or, as published, that
    # of the run's step before; nan before the first search, and if it is not measured.
    first_loss: float = math.nan
    num_stages: int = 0  # begun so far
    num_trials: int = 0  # of all stages
    num_failed: int = 0  # failed trials

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
    """A method that tries learning rates from `min_lr` to `max_lr`."""

    min_lr: float
    max_lr: float

    def init(self) -> AutoLRSState:
        """Return the state before the first step."""
        return AutoLRSState()

    def rate_at(self, place: float) -> float:
        """Return the learning rate at a place in [0, 1]: 0 is `min_lr`, 1 is `max_lr`.

        Its logarithm is linear in the place.
        """
        low, high = math.log10(self.min_lr), math.log10(self.max_lr)
        return min(max(10 ** (low + place * (high - low)), self.min_lr), self.max_lr)


Rule = tuple[tuple[str, ...], bool, str]  # names of options, whether they will do, what they need


def refuse_unusable(method: Any, rules: Iterable[Rule]) -> None:
    """Raise a ValueError that says which of the method's options came, and what they need."""
    for names, holds, needed in (*_shared(method), *rules):
        if not holds:
            came = ", ".join(f"{name}={getattr(method, name)!r}" for name in names)
            raise ValueError(f"{type(method).__name__} got {came}; it needs {needed}")


def _shared(method: Any) -> Iterator[Rule]:
    rates = 0 < method.min_lr < method.max_lr < math.inf
    yield ("min_lr", "max_lr"), rates, "0 < min_lr < max_lr"
    steps, peak = method.warmup_steps, method.warmup_lr
    rises = 0 <= peak < math.inf and steps >= 0 and (peak > 0 or steps == 0)
    needed = "steps >= 0 and, for a warm-up, a finite learning rate > 0"
    yield ("warmup_steps", "warmup_lr"), rises, needed


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
