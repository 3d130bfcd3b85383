"""Each method of `conf/lr`, and wrappers around a learned one, keep the contract."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from meta_lr import checkpoint, testing
from meta_lr.baselines.compose import Composite, Warmup
from meta_lr.baselines.fallback import Fallback
from meta_lr.baselines.policies import Constant, Cosine
from meta_lr.cli.places import conf_dir
from meta_lr.protocol import Need, NoState
from meta_lr.schedulers.learned import Learned
from meta_lr.schedulers.lstm import LSTM
from meta_lr.testing.compare import leaves
from meta_lr.testing.problem import Problem
from meta_lr.training.loop import STATE, StoppedError, train
from meta_lr.training.record import read_rows

METHODS = sorted(path.stem for path in (conf_dir() / "lr").glob("*.yaml"))
WRAPPERS = ["warmup of learned", "composite of learned", "fallback of learned"]
OPTIMIZER = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def write_checkpoint(folder):
    net = LSTM(hidden=6)
    learned = Learned(net, (net.init(0), net.init(1)), 0.2, family="sgd_momentum")
    checkpoint.save(folder, learned, trained_on={}, card="For the tests.\n")
    return folder


def build(place):
    """Return all controllers by name; the learned one is the checkpoint in `place`."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    made = {}
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for name in METHODS:
            chosen = [f"lr.name={place}"] if name == "learned" else []
            config = compose("train", [f"lr={name}", *chosen])
            made[name] = instantiate(config.lr, _convert_="all")
    learned = made["learned"]
    made[WRAPPERS[0]] = Warmup(learned, 20)
    made[WRAPPERS[1]] = Composite([40], [Constant(0.05), learned])
    made[WRAPPERS[2]] = Fallback(learned, Cosine(0.1), 0.5, 1.0)
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def controllers(place):
    return build(place)


def name_of(check):
    return check.__name__.removeprefix("check_")


@pytest.mark.parametrize("check", testing.CHECKS, ids=name_of)
@pytest.mark.parametrize("name", METHODS + WRAPPERS)
def test_contract(controllers, name, check):
    check(controllers[name])


def test_the_methods_do_all_that_they_can_within_the_runs(controllers):
    outcome = train(
        Problem(), OPTIMIZER, controllers["mlr_snet_online"], total_steps=testing.contract.STEPS
    )
    assert float(outcome.state.updates) >= 1


# A child process takes over


def half_way(step=70):
    count = iter(range(step))
    return lambda: next(count, None) is None


CHILD = """
import sys
from pathlib import Path
from tests.test_contract import OPTIMIZER, Problem, build, train
place, folder = map(Path, sys.argv[1:])
for name, controller in build(place).items():
    train(Problem(), OPTIMIZER, controller, total_steps=110, folder=folder / name)
"""


def ends(folder):
    """Return the last state and the record of a run, without what differs between any two."""
    saved = torch.load(folder / STATE, weights_only=True)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(folder)]
    return leaves({k: v for k, v in saved.items() if k not in ("seconds", "offset")}), rows


@pytest.mark.slow
def test_a_child_process_resumes_all(controllers, place, tmp_path):
    run = partial(train, Problem(), OPTIMIZER, total_steps=110, save_every=200)
    for name, controller in controllers.items():
        run(controller, folder=tmp_path / "whole" / name)
        with pytest.raises(StoppedError):
            run(controller, folder=tmp_path / "parts" / name, stop=half_way())
    command = [sys.executable, "-c", CHILD, str(place), str(tmp_path / "parts")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1])
    for name in controllers:
        assert ends(tmp_path / "parts" / name) == ends(tmp_path / "whole" / name), name


# Each rule can fail


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


class Nested(NamedTuple):
    inner: NoState = NoState()


@dataclass(frozen=True)
class NestsItsState(Good):
    def init(self):
        return Nested()


class Numbers(NamedTuple):
    rate: np.float64 = np.float64(0.05)


@dataclass(frozen=True)
class KeepsNumpy(Good):
    def init(self):
        return Numbers()


@dataclass(frozen=True)
class KeepsADict(Good):
    def init(self):
        return {}


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
    (testing.check_resumes, NestsItsState(), "resumes exactly.*NamedTuple of numbers"),
    (testing.check_resumes, KeepsNumpy(), "resumes exactly.*NamedTuple of numbers"),
    (testing.check_resumes, KeepsADict(), "resumes exactly.*NamedTuple of numbers"),
    (testing.check_drop_in, CountsForEver(), "the same rates in any loop.*rate 0"),
]


@pytest.mark.parametrize(("check", "controller", "said"), BROKEN, ids=repr)
def test_each_rule_can_fail(check, controller, said):
    options = {} if check in testing.CHECKS[:2] else {"steps": 12}
    with pytest.raises(AssertionError, match=said):
        check(controller, **options)


def test_all_rules_at_once():
    testing.check_controller(Good(), steps=12)
    for broken in (Undocumented(), HidesAField(), ReadsTheLoss(), CountsForEver()):
        with pytest.raises(AssertionError, match="breaks the rule"):
            testing.check_controller(broken, steps=12)
    with pytest.raises(AssertionError, match="learns"):
        testing.check_controller(Constant(5.0), steps=12)
    testing.check_controller(Constant(5.0), learns=False, steps=12)
