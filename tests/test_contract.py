"""Each method of `conf/lr`, and wrappers around a learned one, keep the contract."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from meta_lr import checkpoint, testing
from meta_lr.baselines.compose import Composite, Warmup
from meta_lr.baselines.fallback import Fallback
from meta_lr.baselines.policies import Constant, Cosine
from meta_lr.cli.places import conf_dir
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
    made[WRAPPERS[2]] = Fallback(learned, Cosine(0.1), 1.0)
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def controllers(place):
    return build(place)


def name_of(check):
    return check.__name__.removeprefix("check_")


@pytest.mark.parametrize("check", [*testing.CHECKS, testing.check_docstring], ids=name_of)
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
