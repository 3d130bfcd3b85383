"""Each method of `conf/lr`, and wrappers around a learned one, keep the contract.

LRBench's policies are one class and one formula: one of them is looked at in full, and of the
others what may differ, which is the numbers of their examples.
"""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path

import pytest
import torch

from meta_lr import checkpoint, testing
from meta_lr.cli.conf_files import choices, conf_dir
from meta_lr.methods.basic import Constant, Cosine
from meta_lr.methods.fallback import Fallback
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.shapes import SHAPES
from meta_lr.methods.wrappers import Composite, Warmup
from meta_lr.records.reader import read_rows
from meta_lr.testing.compare import leaves
from meta_lr.testing.problem import Problem
from meta_lr.training.loop import StoppedError, train
from tests.times import untimed, untimed_state

METHODS = choices("lr")
POLICIES = [name for name in METHODS if name in SHAPES and name != "triexp"]
WRAPPERS = ["warmup of learned", "composite of learned", "fallback of learned"]
IN_FULL = [name for name in METHODS if name not in POLICIES] + WRAPPERS
SHORT = {  # what a method needs in order to do all that it can within the runs
    "autodrop": ["lr.k=2", "lr.buffer=4", "lr.threshold=5"],
    "autodrop_epochs": ["lr.theta=20", "lr.upper_theta=40", "lr.extra_epochs=2"],
    "autolr": ["lr.period=6", "lr.batches=3"],
    # a factor of 1.8 is too much for a quadratic with momentum
    "labpal": ["lr.reuse=20", "lr.skipped=10", "lr.average=3", "lr.kappa=1.0"],
    "autolrs": ["lr.tau=30", "lr.tau_max=30", "lr.shortest=4", "lr.cooldown=0.25"],
    "autolrs_paper": ["lr.tau=40", "lr.tau_max=40", "lr.trials=3"],
}
OPTIMIZER = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def write_checkpoint(folder):
    net = LSTM(hidden=6)
    learned = Learned(net, (net.init(0), net.init(1)), 0.2, family="sgd_momentum")
    checkpoint.save(folder, learned, trained_on={}, card="For the tests.\n")
    return folder


@lru_cache
def build(name, place):
    """Return a controller by its name; the learned one is the checkpoint in `place`."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    import_module("meta_lr.cli.places")  # it registers ${len:...}
    if name in WRAPPERS:
        return wrapped(build("learned", place))[name]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        chosen = [f"lr.name={place}"] if name == "learned" else SHORT.get(name, [])
        return instantiate(compose("train", [f"lr={name}", *chosen]).lr, _convert_="all")


def wrapped(learned):
    both = Composite([40], [Constant(0.05), learned])
    wrappers = (Warmup(learned, 20), both, Fallback(learned, Cosine(0.1), 1.0))
    return dict(zip(WRAPPERS, wrappers, strict=True))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def name_of(check):
    return check.__name__.removeprefix("check_")


@pytest.mark.parametrize("check", [*testing.CHECKS, testing.check_docstring], ids=name_of)
@pytest.mark.parametrize("name", IN_FULL)
def test_contract(place, name, check):
    check(build(name, place))


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_of_lrbench_keeps_the_contract_with_its_own_numbers(place, name):
    policy = build(name, place)
    assert type(policy) is Policy and policy.kind == name
    for check in (testing.check_protocol, testing.check_learns, testing.check_repr):
        check(policy)


def test_the_methods_do_all_that_they_can_within_the_runs(place):
    online = build("mlr_snet_online", place)
    outcome = train(Problem(), OPTIMIZER, online, total_steps=testing.contract.STEPS)
    assert float(outcome.state.updates) >= 1
    for name in ("autodrop", "autodrop_epochs"):
        outcome = train(
            Problem(), OPTIMIZER, build(name, place), total_steps=testing.contract.STEPS
        )
        assert outcome.state.num_drops >= 2
    for name in ("autolrs", "autolrs_paper"):
        outcome = train(
            Problem(), OPTIMIZER, build(name, place), total_steps=testing.contract.STEPS
        )
        assert outcome.state.num_stages == 3, "the later ones validate"


def test_the_methods_that_fit_a_parabola_do_so_within_the_runs(place):
    for name, least in (("autolr", 10), ("labpal", 3)):
        steered = train(
            Problem(), OPTIMIZER, build(name, place), total_steps=testing.contract.STEPS
        )
        assert steered.state.num_accepted >= least


# A child process takes over


def half_way(step=70):
    count = iter(range(step))
    return lambda: next(count, None) is None


CHILD = """
import sys
from pathlib import Path
from tests.testing.test_contract import IN_FULL, OPTIMIZER, Problem, build, train
place, folder = map(Path, sys.argv[1:])
for name in IN_FULL:
    train(Problem(), OPTIMIZER, build(name, place), total_steps=110, folder=folder / name)
"""


def ends(folder):
    """Return the last state and the record of a run, without what differs between any two."""
    return leaves(untimed_state(folder)), untimed(read_rows(folder))


@pytest.mark.slow
def test_a_child_process_resumes_all(place, tmp_path):
    """Over 10 s: every method trains for 110 steps, twice, and a new process imports torch."""
    run = partial(train, Problem(), OPTIMIZER, total_steps=110, save_every=200)
    for name in IN_FULL:
        controller = build(name, place)
        run(controller, folder=tmp_path / "whole" / name)
        with pytest.raises(StoppedError):
            run(controller, folder=tmp_path / "parts" / name, stop=half_way())
    command = [sys.executable, "-c", CHILD, str(place), str(tmp_path / "parts")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    for name in IN_FULL:
        assert ends(tmp_path / "parts" / name) == ends(tmp_path / "whole" / name), name
