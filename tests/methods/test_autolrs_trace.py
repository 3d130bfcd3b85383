"""AutoLRS leaves no trace of its searches, and goes on wherever it was stopped."""

from __future__ import annotations

import importlib.util
import random
import weakref
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.basic import Constant
from meta_lr.methods.wrappers import Wrapper
from meta_lr.protocol import Controller
from meta_lr.records.reader import finished, read_record
from meta_lr.testing.compare import difference, leaves
from meta_lr.training.loop import StoppedError, train
from meta_lr.training.sandbox import InterruptedExperimentError, Sandbox, Trial
from tests.controllers import SHORT
from tests.killing import kill, record, timeless
from tests.short_runs import SGD, ends, record_of, steps_of, stop_when
from tests.times import untimed_state
from tests.toys import Toy

# No trace, and going on


@dataclass(frozen=True)
class Discarded(Wrapper):
    """Searches, and then takes a constant rate."""

    inner: Controller
    rate: float = 0.05

    def __call__(self, view, state):
        return self.rate, self.inner(view, state)[1]


def test_a_search_whose_result_is_discarded_leaves_no_trace():
    plain = train(Toy(), SGD, Constant(0.05), total_steps=50, clip=1.0)
    searched = train(Toy(), SGD, Discarded(SHORT), total_steps=50, clip=1.0)
    assert searched.search_cost > 0.0
    trained = [leaves(outcome.model.state_dict()) for outcome in (plain, searched)]
    assert difference(*trained) == "" and plain.test == searched.test


@pytest.mark.parametrize("asks", [1, 7, 23])
def test_a_search_that_is_interrupted_begins_anew(tmp_path, asks):
    """At the losses of the start, in a trial, in the second stage."""
    go = partial(train, Toy(), SGD, SHORT, total_steps=50, eval_every=25)
    whole = go(folder=tmp_path / "whole")
    with pytest.raises(StoppedError) as stopped:
        go(folder=tmp_path / "parts", stop=stop_when(asks, asker="part_losses"))
    assert stopped.value.step == (0 if asks < 20 else 20)
    assert difference(ends(whole), ends(go(folder=tmp_path / "parts"))) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


@pytest.mark.parametrize("death", [3, 20])
def test_a_run_that_dies_in_a_search_goes_on_from_its_last_save(tmp_path, monkeypatch, death):
    go = partial(train, Toy(), SGD, SHORT, total_steps=70, save_every=15)
    whole = go(folder=tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trial, "step", dies_at(death))
        go(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(go(folder=tmp_path / "parts"))) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def dies_at(death):
    """A trial's step that is interrupted at the so-many-th of them all."""
    count, step = iter(range(death)), Trial.step

    def dying(trial, rate):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return step(trial, rate)

    return dying


def test_a_run_stops_and_goes_on_in_the_middle_of_a_stage(tmp_path):
    go = partial(train, Toy(), SGD, SHORT, total_steps=50)
    whole = go(folder=tmp_path / "whole")
    for count in (7, 20):
        with pytest.raises(StoppedError):
            go(folder=tmp_path / "parts", stop=stop_when(count))
    again = go(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    searches = [row["step"] for row in read_record(tmp_path / "parts").searches]
    assert searches == [0] * 5 + [20] * 5, "nothing was searched twice"
    assert [row["step"] for row in steps_of(tmp_path / "parts")] == list(range(50))


def test_there_is_at_most_one_copy_at_a_time():
    living, most = weakref.WeakSet(), []

    class Counting(torch.nn.Linear):
        def forward(self, x):
            living.add(self)
            most.append(len(living))
            return super().forward(x)

    class Task(Toy):
        def model(self):
            return Counting(6, 3)

    task = Task()
    model = task.model()
    optimizer = SGD(model.parameters())
    sandbox = Sandbox(model, optimizer, task.loss, task.batch)
    scheduler = ControlledLR(optimizer, replace(SHORT, tau_max=20), sandbox=sandbox)
    for step in range(41):
        task.loss(model, task.batch("train", step)).backward()
        optimizer.step()
    assert scheduler.state_dict()["state"]["num_stages"] == 3
    assert max(most) == 2 and len(most) > 40


# In a loop of one's own


def test_a_stop_in_one_s_own_loop_leaves_all_as_it_was():
    task, stopped = Toy(), [False]
    model = task.model()
    optimizer = SGD(model.parameters())
    sandbox = Sandbox(model, optimizer, task.loss, task.batch, stop=lambda: stopped[0])
    scheduler = ControlledLR(optimizer, SHORT, sandbox=sandbox)
    task.loss(model, task.batch("train", 0)).backward()
    parts = (model, optimizer, scheduler)
    before = leaves([part.state_dict() for part in parts])
    stopped[0] = True
    with pytest.raises(InterruptedExperimentError):
        optimizer.step()
    assert difference(before, leaves([part.state_dict() for part in parts])) == ""
    stopped[0] = False
    optimizer.step()
    assert scheduler.last_epoch == 1


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "autolrs_plain_loop.py"
    spec = importlib.util.spec_from_file_location("autolrs_plain_loop", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FEW = {"tau": 20, "shortest": 4, "first_trials": 3, "cooldown": 0.0}  # two stages in 45 steps
FORKS = pytest.mark.filterwarnings("ignore:.*use of fork")  # its DataLoader has workers


@FORKS
def test_the_example_s_run_is_the_same_without_the_searches(example, tmp_path):
    few = replace(example.AUTOLRS, **FEW)
    plain = example.run(tmp_path / "plain", Constant(0.05), steps=45)
    searched = example.run(tmp_path / "searched", Discarded(few), steps=45)
    assert searched["cost"] > plain["cost"] == 0.0
    assert searched["scheduler"]["state"]["num_stages"] == 2
    for part in ("model", "optimizer", "scaler"):
        assert difference(leaves(plain[part]), leaves(searched[part])) == ""


@FORKS
def test_the_example_goes_on_after_an_interruption_in_a_search(example, tmp_path, monkeypatch):
    few = replace(example.AUTOLRS, **FEW)
    whole = example.run(tmp_path / "whole", few, steps=45)
    for death in (5, 14):  # in the first search, and, run anew, in the second
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trial, "step", dies_at(death))
            example.run(tmp_path / "parts", few, steps=45)
    again = example.run(tmp_path / "parts", few, steps=45)
    assert difference(leaves(whole), leaves(again)) == ""


# The command

COMMAND = [
    *("train", "task=digits", "model=resnet8", "optimizer=adam", "total_steps=160", "threads=1"),
    *("lr=autolrs", "lr.min_lr=1e-4", "lr.max_lr=0.03", "lr.tau=80", "lr.tau_max=80"),
    *("lr.ratio=5", "lr.trials=6", "lr.cooldown=0.25", "save_every=10"),
    "eval_every=30",
]


@pytest.mark.slow
def test_a_command_that_is_killed_in_its_searches_ends_as_if_nothing_had_happened(tmp_path, warm):
    """Two of three seconds are spent in a search, in which the record does not grow.

    Over 10 s: two whole runs of a convolutional network, and one that is begun again four times.
    """
    draw, whole, parts = random.Random(0), tmp_path / "whole", tmp_path / "parts"
    for place in (whole, parts):
        place.mkdir()
    for _ in range(4):
        kill(warm, parts, COMMAND, lines=draw.randint(1, 12), seconds=draw.uniform(0.0, 0.5))
        assert not finished(record(parts).parent)
    for place in (parts, whole):
        assert warm.run(place, COMMAND).code == 0
    states = [untimed_state(record(place).parent) for place in (whole, parts)]
    assert states[0]["state"]["num_stages"] == 2
    assert difference(*map(leaves, states)) == ""
    assert timeless(parts) == timeless(whole)
