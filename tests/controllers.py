"""Tiny controllers for the tests of the drop-in scheduler, each with a rate known by hand.

And AutoLRS, with stages and trials of a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from meta_lr.methods.autolrs.method import AutoLRS
from meta_lr.protocol import Average, Need, NoState

SHORT = AutoLRS(  # stages of 20 and 40 steps, four short trials each
    **{"min_lr": 1e-3, "max_lr": 1.0, "tau": 20, "tau_max": 40, "ratio": 10, "shortest": 2},
    **{"trials": 4, "first_trials": None, "batches": 2},
    **{"anneal": 0.0, "cooldown": 0.0, "ramp": False},
)


class Count(NamedTuple):
    asked: int = 0


@dataclass(frozen=True)
class Tenth:
    """A tenth of the loss; counts how often it is asked."""

    factor: float = 0.1
    needs = Need.LOSS

    def init(self):
        return Count()

    def __call__(self, view, state):
        return self.factor * view.loss.item(), Count(state.asked + 1)


class Loss(NamedTuple):
    loss: float = 0.0


@dataclass(frozen=True)
class Momentum:
    """The running mean of the losses: what it says depends on all that it has seen."""

    needs = Need.LOSS

    def init(self):
        return Loss()

    def __call__(self, view, state):
        loss = 0.5 * state.loss + 0.5 * view.loss.item()
        return 0.01 * loss, Loss(loss)


class Seen(NamedTuple):
    step: int = -1
    params: tuple = ()
    grads: tuple = ()
    direction: tuple = ()


@dataclass(frozen=True)
class Witness:
    """A constant rate; keeps copies of all the tensors that it is shown."""

    rate: float = 0.1
    needs = Need.PARAMS | Need.GRADS | Need.DIRECTION

    def init(self):
        return Seen()

    def __call__(self, view, state):
        shown = (view.params, view.grads, view.direction)
        return self.rate, Seen(view.step, *(tuple(t.clone() for t in list_) for list_ in shown))


@dataclass(frozen=True)
class Stepped:
    """A policy: (t + 1) / 10. Counts how often it is asked."""

    needs = Need.NOTHING

    def init(self):
        return Count()

    def __call__(self, view, state):
        return (view.step + 1) / 10, Count(state.asked + 1)


@dataclass(frozen=True)
class Says:
    """Whatever it was told to say, whatever it declares."""

    answer: object
    needs: Need = Need.PARAMS
    family: str = ""

    def init(self):
        return NoState()

    def __call__(self, view, state):
        return self.answer, state


@dataclass(frozen=True)
class Restart:
    """Restart from half the weights plus one, after a step at 0.1."""

    needs = Need.PARAMS

    def init(self):
        return NoState()

    def __call__(self, view, state):
        return Average(0.1, 0.5, tuple(torch.ones_like(p) for p in view.params)), state
