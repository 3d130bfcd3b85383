"""A loss that is not finite ends the run, and says where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import pytest

from meta_lr.records.reader import NAME, read_rows
from meta_lr.training import stepper
from meta_lr.training.loop import StoppedError, train
from tests.short_runs import SGD, online, steps_of, stop_when
from tests.toys import Fixed, LossRate, Toy


@dataclass(frozen=True)
class Poisoned(Toy):
    """Its training batch of one step is not a number."""

    at: int = 6

    def batch(self, split, index, draw=None):
        x, y = super().batch(split, index, draw)
        return (x * math.nan if split == "train" and index == self.at else x), y


@pytest.fixture(params=["known at once", "found at the flush"])
def finding(request, monkeypatch):
    """On an accelerator no step waits for its loss; here that is only pretended."""
    if request.param == "found at the flush":
        monkeypatch.setattr(stepper, "_is_known_bad", lambda loss: False)
    return request.param


@pytest.mark.parametrize("controller", [Fixed(), LossRate(), online()], ids=repr)
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, finding, controller):
    told = []
    outcome = train(
        Poisoned(), SGD, controller, total_steps=20, folder=tmp_path, listener=told.append
    )
    assert outcome.status == "diverged at step 6" and outcome.steps == 6
    assert outcome.test == {}
    rows = read_rows(tmp_path)
    assert [row["step"] for row in rows if row["kind"] == "step"] == list(range(6))
    assert [row["split"] for row in rows if row["kind"] == "eval"] == ["val"]
    end = rows[-1]
    assert (end["kind"], end["status"], end["steps"]) == ("end", outcome.status, 6)
    assert told == rows
    assert [line for line in (tmp_path / NAME).read_text().splitlines() if "nan" in line] == []
    again = train(Poisoned(), SGD, controller, total_steps=20, folder=tmp_path)
    assert (again.status, again.steps, again.cost) == (outcome.status, 6, outcome.cost)


def test_it_ends_at_that_step_if_only_each_nth_is_recorded(tmp_path, finding):
    run = partial(train, Poisoned(), SGD, Fixed(), total_steps=7, record_every=5, folder=tmp_path)
    assert run().status == "diverged at step 6"
    assert [row["step"] for row in steps_of(tmp_path)] == [0, 5]


def test_a_stop_does_not_hide_that_the_run_has_diverged(tmp_path, monkeypatch):
    monkeypatch.setattr(stepper, "_is_known_bad", lambda loss: False)
    run = partial(train, Poisoned(), SGD, Fixed(), total_steps=20, save_every=20, folder=tmp_path)
    with pytest.raises(StoppedError):
        run(stop=stop_when(9))
    assert run().status == "diverged at step 6"
    assert [row["step"] for row in steps_of(tmp_path)] == list(range(6))


def test_an_overflow_in_the_last_update_is_a_divergence():
    class Leap(Fixed):
        def __call__(self, view, state):
            return (1e30 if view.step == 5 else 0.1), state

    outcome = train(Toy(norm=False), SGD, Leap(), total_steps=6)
    assert outcome.status == "diverged at step 6"
    assert outcome.test == {}


def test_an_unusable_rate_is_the_controller_s_fault_if_the_loss_is_finite(finding):
    with pytest.raises(ValueError, match="LossRate returned the learning rate nan at step 0"):
        train(Toy(), SGD, LossRate(math.nan), total_steps=3)
    with pytest.raises(ValueError, match=r"Fixed returned the learning rate -1\.0 at step 0"):
        train(Toy(), SGD, Fixed(-1.0), total_steps=3)
