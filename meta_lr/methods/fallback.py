"""Fallback: one controller while the loss is in its range, another one above the range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from meta_lr.protocol import Controller, Need, Rate, StepView

_MEMORY = 0.9  # decay of the share per step: it averages about ten losses
_TAKES, _GIVES = 0.9, 0.1  # the shares at which the second controller takes over and stops


class FallbackState(NamedTuple):
    """Both controllers' states as plain tuples, and which controller is active."""

    inner: tuple[Any, ...]
    outside: tuple[Any, ...]
    share: float | None = None  # of recent losses above the range; None before the first loss
    fallen: bool = False  # the second controller has taken over
    num_fallbacks: int = 0  # steps in which it was active


@dataclass(frozen=True)
class Fallback:
    """Use one controller until the losses exceed its range, then use another one.

    Update:
        s(t) = 0.9 s(t - 1) + 0.1 [loss > high or not finite], s(-1) as at the first loss;
        rate = outside(t) from s >= 0.9 until s <= 0.1, else inner(t).
        The first loss decides at once. Later, two changes are at least 21 steps apart, so noise
        and spikes do not cause frequent changes. A loss below the range is no reason to change: it
        means success. If the loss of a step is not finite, the step uses the learning rate of
        `outside`, and `inner` is not called.
    Reference:
        none: a safety net for learned schedules, which extrapolate above their range.
    Deviations:
        none
    Cost:
        that of both controllers

    Args:
        inner: The controller for losses up to `high`.
        outside: The controller for losses above `high`; it is called at every step.
        high: Largest loss of the range.

    >>> from meta_lr.methods.basic import Constant
    >>> import torch
    >>> both = Fallback(Constant(0.1), Constant(0.3), high=2.0)
    >>> rate, state = both(StepView(both, 0, loss=torch.tensor(4.0)), both.init())
    >>> rate, state.num_fallbacks
    (0.3, 1)
    """

    inner: Controller
    outside: Controller
    high: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.high):
            raise ValueError(
                f"Fallback got high={self.high}; it needs the largest loss that inner knows"
            )

    @property
    def needs(self) -> Need:
        """The loss, and what either controller reads."""
        return Need.LOSS | self.inner.needs | self.outside.needs

    @property
    def family(self) -> str:
        """The optimizer family of the inner controller; "" for any family."""
        return getattr(self.inner, "family", "")

    def init(self) -> FallbackState:
        """Return the state before the first step."""
        return FallbackState(tuple(self.inner.init()), tuple(self.outside.init()))

    def __call__(self, view: StepView, state: FallbackState) -> tuple[Rate, FallbackState]:
        """Return the learning rate of this step, and the next state."""
        loss = view.loss_item()
        share, fallen = self._judge(loss, state)
        inner_kind, outside_kind = self._kinds
        other, outside = self.outside(view.seen_by(self.outside), outside_kind(*state.outside))
        if math.isfinite(loss):
            rate, inner = self.inner(view.seen_by(self.inner), inner_kind(*state.inner))
        else:
            rate, inner = other, state.inner
        count = state.num_fallbacks + (fallen or not math.isfinite(loss))
        state = FallbackState(tuple(inner), tuple(outside), share, fallen, count)
        return other if fallen else rate, state

    def _judge(self, loss: float, state: FallbackState) -> tuple[float, bool]:
        """Return the share of recent losses above the range, and whether `outside` is active."""
        above = float(not loss <= self.high)
        share = above if state.share is None else _MEMORY * state.share + (1 - _MEMORY) * above
        return share, share > _GIVES if state.fallen else share >= _TAKES

    @cached_property
    def _kinds(self) -> tuple[type, type]:
        return type(self.inner.init()), type(self.outside.init())
