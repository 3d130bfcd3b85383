"""Each rule of the contract can fail, and says why."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from meta_lr import testing
from meta_lr.methods.basic import Constant
from meta_lr.protocol import Need, NoState


@dataclass(frozen=True)
class Good:
    """A controller that reads nothing; those below each do one thing wrong.

    Update:
        rate = 0.05
    Reference:
        none
    Deviations:
        none
    Cost:
        none
    """

    needs = Need.NOTHING

    def init(self):
        return NoState()

    def __call__(self, view, state):
        return 0.05, state


@dataclass(frozen=True)
class Undocumented(Good):
    """Without its cost.

    Update:
        rate = 0.05
    Reference:
        none
    Deviations:
        none
    Cost:
    """


@dataclass(frozen=True)
class HidesAField(Good):
    peak: float = field(default=0.1, repr=False)


@dataclass(frozen=True)
class ShowsAnAddress(Good):
    inner: object = field(default_factory=object)


@dataclass
class Thawed:
    peak: float = 0.1


@dataclass(frozen=True)
class ReadsTheLoss(Good):
    def __call__(self, view, state):
        return 0.1 * float(view.loss), state


@dataclass(frozen=True)
class TriesSteps(Good):
    needs = Need.META

    def __call__(self, view, state):
        with view.sandbox.trial() as trial:
            trial.step(0.1)
        return 0.05, state


@dataclass(frozen=True)
class ReadsMeta(Good):
    needs = Need.TRIALS | Need.PARAMS

    def __call__(self, view, state):
        return 0.05 + 0 * float(view.sandbox.meta_loss(view.params)), state


@dataclass(frozen=True)
class Explodes(Good):
    def __call__(self, view, state):
        return 1e4, state


@dataclass(frozen=True)
class Meddles(Good):
    """Changes what it was only shown."""

    how: str = ""
    needs = Need.PARAMS | Need.GRADS | Need.META | Need.LOSS

    def __call__(self, view, state):
        if view.step == 7:
            MEDDLING[self.how](view)
        return 0.05, state


def forward(view):
    view.sandbox.model(torch.randn(4, 5, generator=torch.Generator()))


MEDDLING = {
    "a parameter": lambda view: view.params[0].mul_(1.0001),
    "a gradient": lambda view: view.grads[0].zero_(),
    "a gradient that is lost": lambda view: setattr(view.params[0], "grad", None),
    "a buffer": forward,
    "momentum": lambda view: view.sandbox.optimizer.state[view.params[0]].clear(),
    "a group": lambda view: view.sandbox.optimizer.param_groups[0].update(weight_decay=0.1),
    "the mode": lambda view: view.sandbox.model.eval(),
    "random numbers": lambda view: torch.rand(1),
    "numpy's random numbers": lambda view: np.random.rand(),
    "python's random numbers": lambda view: random.random(),
}

SEEN = [0]  # what the next two keep beside their state


@dataclass(frozen=True)
class CountsForEver(Good):
    def __call__(self, view, state):
        SEEN[0] += 1
        return 0.05 / SEEN[0], state


@dataclass(frozen=True)
class CountsFromTheStart(Good):
    def __call__(self, view, state):
        SEEN[0] = 0 if view.step == 0 else SEEN[0] + 1
        return 0.05 / (1 + SEEN[0]), state


BROKEN = [
    (testing.check_docstring, Undocumented(), "documented.*no Cost"),
    (testing.check_docstring, Explodes(), "documented.*no Update, Reference, Deviations, Cost"),
    (testing.check_repr, HidesAField(), "shows its fields.*peak"),
    (testing.check_repr, ShowsAnAddress(), "shows its fields.*address"),
    (testing.check_repr, Thawed(), "shows its fields.*frozen dataclass"),
    (testing.check_reads, ReadsTheLoss(), "only what it declares.*reads loss but declares NOTHING"),
    (testing.check_reads, TriesSteps(), "only what it declares.*sandbox.trial.*TRIALS"),
    (testing.check_reads, ReadsMeta(), "only what it declares.*sandbox.meta_loss.*META"),
    (testing.check_learns, Explodes(), "learns the quadratic.*went from"),
    *((testing.check_no_trace, Meddles(how), "leaves no trace.*step 7") for how in MEDDLING),
    (testing.check_resumes, CountsForEver(), "resumes exactly.*rate 0"),
    (testing.check_resumes, CountsFromTheStart(), "resumes exactly.*rate 0"),
    (testing.check_drop_in, CountsForEver(), "the same learning rates .*learning rate 0"),
]


def _short(value):
    return getattr(value, "__name__", value if isinstance(value, str) else type(value).__name__)


@pytest.mark.parametrize(("check", "controller", "said"), BROKEN, ids=_short)
def test_each_rule_can_fail(check, controller, said):
    options = {} if check in (testing.check_docstring, testing.check_repr) else {"steps": 12}
    with pytest.raises(AssertionError, match=said):
        check(controller, **options)


def test_all_rules_at_once():
    testing.check_controller(Good(), steps=12)
    for broken in (HidesAField(), ReadsTheLoss(), CountsForEver()):
        with pytest.raises(AssertionError, match="breaks the rule"):
            testing.check_controller(broken, steps=12)
    testing.check_controller(Undocumented(), steps=12)
    with pytest.raises(AssertionError, match="learns"):
        testing.check_controller(Constant(5.0), steps=12)
    testing.check_controller(Constant(5.0), learns=False, steps=12)
