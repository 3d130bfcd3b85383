"""One controller where the loss is known, another where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from meta_lr.protocol import Controller, Need, Rate, StepView


class FallbackState(NamedTuple):
    """Both controllers' states as plain tuples, and how often the second one steered."""

    inner: tuple[Any, ...]
    outside: tuple[Any, ...]
    num_fallbacks: int = 0


@dataclass(frozen=True)
class Fallback:
    """The rate of one controller while the loss is in its range, else that of another.

    Update:
        rate(t) = inner(t) if low <= loss <= high, else outside(t); both see each step.
    Reference:
        none: a safety net for learned schedules, which are extrapolations outside their range.
    Deviations:
        none
    Cost:
        that of both controllers

    Args:
        inner: Steers inside the range.
        outside: Steers elsewhere, and where the loss is not a number.
        low: Smallest loss of the range.
        high: Largest loss of the range.

    >>> from meta_lr.baselines.policies import Constant
    >>> import torch
    >>> both, loss = Fallback(Constant(0.1), Constant(0.3), 0.5, 2.0), torch.tensor(4.0)
    >>> both(StepView(both, 0, loss=loss), both.init())
    (0.3, FallbackState(inner=(), outside=(), num_fallbacks=1))
    """

    inner: Controller
    outside: Controller
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(
                f"Fallback got the range [{self.low}, {self.high}]; low must be below high"
            )

    @property
    def needs(self) -> Need:
        """The loss, and what either controller reads."""
        return Need.LOSS | self.inner.needs | self.outside.needs

    @property
    def family(self) -> str:
        """The optimizer family of the inner controller, "" if any will do."""
        return getattr(self.inner, "family", "")

    def init(self) -> FallbackState:
        """Return the state before the first step."""
        return FallbackState(tuple(self.inner.init()), tuple(self.outside.init()))

    def __call__(self, view: StepView, state: FallbackState) -> tuple[Rate, FallbackState]:
        """Return the rate of this step, and the next state."""
        inner_kind, outside_kind = self._kinds
        rate, inner = self.inner(view.seen_by(self.inner), inner_kind(*state.inner))
        other, outside = self.outside(view.seen_by(self.outside), outside_kind(*state.outside))
        known = self.low <= view.loss.item() <= self.high
        count = state.num_fallbacks + (not known)
        return rate if known else other, FallbackState(tuple(inner), tuple(outside), count)

    @cached_property
    def _kinds(self) -> tuple[type, type]:
        return type(self.inner.init()), type(self.outside.init())
