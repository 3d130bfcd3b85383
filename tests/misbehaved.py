"""Methods whose answers are in order, but not what they do beside, and the line that tells it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from meta_lr.protocol import Need
from tests.broken import KEEPS, Sound, mine

READS = "breaks the rule 'reads only what it declares':"
LEARNS = "breaks the rule 'learns the quadratic':"
TRACE = "breaks the rule 'leaves no trace':"
RESUMES = "breaks the rule 'resumes exactly':"
SHOWS = "breaks the rule 'shows its fields':"
IN_STATE = "keep all that changes in the state"
LEAVE = "try things in view.sandbox, draw from your own Generator"


class Thawed:
    """Counts in itself."""

    needs, asked = Need.NOTHING, 0
    init = Sound.init

    def __call__(self, view, state):
        self.asked += 1
        return 0.1 / self.asked**0.5, state


class Plain(Thawed):
    __call__ = Sound.__call__


@dataclass(frozen=True)
class Counter(Sound):
    asked: int = 0

    def __call__(self, view, state):
        object.__setattr__(self, "asked", self.asked + 1)
        return 0.05, state


@dataclass(frozen=True)
class Hiding(Sound):
    peak: float = 0.1

    def __repr__(self):
        return "Hiding()"


def assigns(self, view, state):
    self.last = view.step


def poke(view, state):
    view.params[0].mul_(1.001)
    return 0.05, state


def clear(view, state):
    view.sandbox.optimizer.state.clear()
    return 0.05, state


def train_the_model_itself(view, state):
    view.sandbox.model(torch.zeros(4, 5))
    return 0.05, state


def freeze(view, state):
    view.sandbox.model.requires_grad_(False)
    return 0.05, state


def draw(view, state):
    return 0.05 + 0.001 * float(torch.rand(())), state


SEEN = [0]


def count_elsewhere(view, state):
    SEEN[0] += 1
    return 0.1 / SEEN[0] ** 0.5, state


MISBEHAVED = {
    "it reads what it does not declare": (
        mine(lambda view, state: (0.1 * float(view.loss), state), needs=Need.GRADS),
        f"Mine {READS} Mine reads loss but declares GRADS; add it to its needs, or do without",
    ),
    "it changes a parameter": (
        mine(poke, needs=Need.PARAMS),
        f"Mine {TRACE} model.0.weight changed at step 0; {LEAVE}",
    ),
    "it changes the optimizer": (
        mine(clear, needs=Need.META),
        f"Mine {TRACE} optimizer.state.0.momentum_buffer changed at step 1; {LEAVE}",
    ),
    "it runs the model outside of the sandbox's methods": (
        mine(train_the_model_itself, needs=Need.META),
        f"Mine {TRACE} model.1.running_mean changed at step 0; {LEAVE}",
    ),
    "it freezes the model": (
        mine(freeze, needs=Need.META),
        f"Mine {KEEPS} the run raised RuntimeError: *",
    ),
    "it draws from the global random state": (
        mine(draw, needs=Need.LOSS),
        f"Mine {TRACE} the random state of torch changed at step 0; {LEAVE}",
    ),
    "it assigns to itself": (
        mine(__call__=assigns),
        f"Mine {KEEPS} at step 0, __call__(view, state) raised FrozenInstanceError: cannot assign "
        "to field 'last'; keep what changes in the state",
    ),
    "it counts in itself": (
        Thawed(),
        f"Thawed {RESUMES} learning rate 0 is *, and * was expected, after step 11; " + IN_STATE,
    ),
    "it counts elsewhere": (
        mine(count_elsewhere),
        f"Mine {RESUMES} learning rate 0 is *, and * was expected, after step 11; " + IN_STATE,
    ),
    "its repr moves": (
        Counter(),
        f"Counter {RESUMES} its repr went from Counter(asked=*) to Counter(asked=*); {IN_STATE}",
    ),
    "it is not frozen": (
        Plain(),
        f"Plain {SHOWS} it is not a frozen dataclass; put @dataclass(frozen=True) above it",
    ),
    "its repr hides an option": (
        Hiding(),
        f"Hiding {SHOWS} peak is not in its repr, Hiding(); show each option, as dataclasses do",
    ),
    "it diverges": (
        mine(lambda view, state: (5.0, state)),
        f"Mine {LEARNS} its loss went from 0.5337 to * in 12 steps; choose learning rates "
        "near 0.1, or learns=False",
    ),
}
