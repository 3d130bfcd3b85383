"""Methods whose form, state or rate is not that of the protocol, and the line that tells it."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from typing import NamedTuple

import numpy as np
import torch

from meta_lr.protocol import Average, Need, NoState


@dataclass(frozen=True)
class Sound:
    """A controller that keeps the contract, but not the house rule for docstrings."""

    needs = Need.NOTHING

    def init(self):
        return NoState()

    def __call__(self, view, state):
        return 0.05, state


def mine(answer=None, **members):
    """A method that is sound but for what is given; `answer` is its __call__ without self."""
    if answer is not None:
        members["__call__"] = lambda self, view, state: answer(view, state)
    return make_dataclass("Mine", [], bases=(Sound,), namespace=members, frozen=True)()


class Kept(NamedTuple):
    value: object = None


def keeping(value):
    return {"init": lambda self: Kept(value)}


class OtherInit(Sound):
    def init(self, params):
        return NoState()


class OtherCall(Sound):
    def __call__(self, view):
        return 0.05


class Bare(Sound):
    needs = None


KEEPS = "breaks the rule 'keeps the protocol':"
RATE = "return a number, a tensor of shape () or an Average"
STATE = "make it a NamedTuple of None, numbers, strings, tensors and plain tuples of these"
NEED = "return a Need, such as Need.NOTHING, Need.LOSS or Need.LOSS | Need.GRADS"

# "*" stands for anything

BROKEN_FORMS = {
    "the class itself": (
        Sound,
        f"Sound {KEEPS} a class came; pass an instance, such as Sound(...)",
    ),
    "a function": (
        lambda view, state: (0.1, state),
        f"function {KEEPS} it has no method init; add one that is called as init() and returns "
        "the state before the first step",
    ),
    "init takes an argument": (
        OtherInit(),
        f"OtherInit {KEEPS} it has init(params); let it be called as init()",
    ),
    "__call__ takes no state": (
        OtherCall(),
        f"OtherCall {KEEPS} it has __call__(view); let it be called as __call__(view, state)",
    ),
    "no needs": (
        Bare(),
        f"Bare {KEEPS} it has no needs; add a property that returns what it reads, such as "
        "Need.LOSS",
    ),
    "needs is a method": (
        mine(needs=lambda self: Need.LOSS),
        f"Mine {KEEPS} its needs is a method; put @property above it",
    ),
    "needs is a tuple": (
        mine(needs=(Need.LOSS, Need.GRADS)),
        f"Mine {KEEPS} its needs is a tuple; {NEED}",
    ),
    "needs is a string": (mine(needs="LOSS"), f"Mine {KEEPS} its needs is 'LOSS'; {NEED}"),
    "needs raises": (
        mine(needs=property(lambda self: 1 / 0)),
        f"Mine {KEEPS} needs raised ZeroDivisionError: division by zero",
    ),
}

BROKEN_STATES = {
    "no state": (
        mine(init=lambda self: None),
        f"Mine {KEEPS} from init(), the state is None; {STATE}",
    ),
    "state is a dict": (
        mine(init=lambda self: {}),
        f"Mine {KEEPS} from init(), the state is a dict; {STATE}",
    ),
    "state is a plain tuple": (
        mine(init=lambda self: (0, 1)),
        f"Mine {KEEPS} from init(), the state is a tuple; {STATE}",
    ),
    "state holds a list": (
        mine(**keeping([])),
        f"Mine {KEEPS} from init(), value of the state is a list; {STATE}",
    ),
    "state holds a dict in a tuple": (
        mine(**keeping((1, (2.0, {})))),
        f"Mine {KEEPS} from init(), value[1][1] of the state is a dict; {STATE}",
    ),
    "state holds a NamedTuple": (
        mine(**keeping(NoState())),
        f"Mine {KEEPS} from init(), value of the state is a NoState; {STATE}",
    ),
    "state holds a number of NumPy": (
        mine(**keeping(np.float64(0.5))),
        f"Mine {KEEPS} from init(), value of the state is *; {STATE}",
    ),
    "state forgotten on the way": (
        mine(lambda view, state: (0.05, None if view.step == 3 else state)),
        f"Mine {KEEPS} at step 3, the state is None; return a NoState, as init() does",
    ),
    "state becomes another": (
        mine(lambda view, state: (0.05, Kept())),
        f"Mine {KEEPS} at step 0, the state is a Kept; return a NoState, as init() does",
    ),
    "state keeps live parameters": (
        mine(lambda view, _: (0.05, Kept(tuple(view.params))), needs=Need.PARAMS, **keeping(None)),
        f"Mine {KEEPS} at step 0, value[0] of the state is a live parameter; keep a clone() of it",
    ),
    "state keeps a part of a live gradient": (
        mine(lambda view, _: (0.05, Kept(view.grads[0][0])), needs=Need.GRADS, **keeping(None)),
        f"Mine {KEEPS} at step 0, value of the state is a live gradient; keep a clone() of it",
    ),
}

BROKEN_RATES = {
    "a rate and no state": (
        mine(lambda view, state: 0.05),
        f"Mine {KEEPS} at step 0, it returned 0.05; return a pair, (rate, state)",
    ),
    "an Average and no state": (
        mine(lambda view, state: Average(0.05, 1.0, ())),
        f"Mine {KEEPS} at step 0, it returned an Average; return a pair, (rate, state)",
    ),
    "nothing": (
        mine(lambda view, state: None),
        f"Mine {KEEPS} at step 0, it returned None; return a pair, (rate, state)",
    ),
    "rate and state swapped": (
        mine(lambda view, state: (state, 0.05)),
        f"Mine {KEEPS} at step 0, the learning rate is a NoState; {RATE}",
    ),
    "a string": (
        mine(lambda view, state: ("0.05", state)),
        f"Mine {KEEPS} at step 0, the learning rate is '0.05'; {RATE}",
    ),
    "None": (
        mine(lambda view, state: (None, state)),
        f"Mine {KEEPS} at step 0, the learning rate is None; {RATE}",
    ),
    "a complex number": (
        mine(lambda view, state: (0.1j, state)),
        f"Mine {KEEPS} at step 0, the learning rate is 0.1j; {RATE}",
    ),
    "a complex tensor": (
        mine(lambda view, state: (torch.tensor(0.1j), state)),
        f"Mine {KEEPS} at step 0, the learning rate is a complex64 tensor of shape (); {RATE}",
    ),
    "a tensor of two": (
        mine(lambda view, state: (torch.ones(2), state)),
        f"Mine {KEEPS} at step 0, the learning rate is a float32 tensor of shape (2,); {RATE}",
    ),
    "a negative rate": (
        mine(lambda view, state: (0.05 - 0.02 * view.step, state)),
        f"Mine {KEEPS} at step 3, the learning rate is -0.0*; "
        "return one that is finite and not negative",
    ),
    "not a number, in an Average": (
        mine(lambda view, state: (Average(float("nan"), 1.0, ()), state)),
        f"Mine {KEEPS} at step 0, the learning rate is nan; "
        "return one that is finite and not negative",
    ),
    "an Average of other parameters": (
        mine(lambda view, state: (Average(0.05, 1.0, (torch.ones(1),)), state)),
        f"Mine {KEEPS} the run raised RuntimeError: *",
    ),
    "it raises": (
        mine(lambda view, state: (1 / (2 - view.step), state)),
        f"Mine {KEEPS} at step 2, __call__(view, state) raised ZeroDivisionError: division by zero",
    ),
}
