"""The loop: exact resume, one run per folder, divergence, honest costs and records."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import nn

from meta_lr.baselines.fallback import Fallback
from meta_lr.baselines.policies import Constant, Cosine
from meta_lr.bilevel.online import OnlineMLRSNet
from meta_lr.protocol import Average, Need, NoState
from meta_lr.schedulers.lstm import LSTM
from meta_lr.testing.compare import difference, leaves
from meta_lr.training import loop, record
from meta_lr.training.loop import STATE, StoppedError, train
from meta_lr.training.record import NAME, LockedError, locked, read_rows
from tests.toys import Fixed, HeavyProber, LossRate, Toy

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
ADAM = partial(torch.optim.Adam, lr=0.1)
SECONDS = re.compile(rb',"seconds":[-+.e0-9]+')


def online(look_ahead=1, **options):
    return OnlineMLRSNet(
        LSTM(hidden=4), gamma=0.1, period=3, look_ahead=look_ahead, meta_lr=0.01, **options
    )


def record_of(folder):
    """The bytes of the record, without what no two runs share."""
    return SECONDS.sub(b"", (folder / NAME).read_bytes())


def ends(outcome):
    """All that a run comes to, in a form that == compares bit for bit."""
    plain = ("status", "steps", "cost", "search_cost", "val", "test")
    facts = {name: getattr(outcome, name) for name in plain}
    return leaves({**facts, "model": outcome.model.state_dict(), "state": outcome.state})


def stop_when(count, asker="steps"):
    """Stop when `asker` (the loop's `steps`, or the sandbox's `loss_of`) asks once too often."""
    asked = 0

    def stop():
        nonlocal asked
        asked += sys._getframe(1).f_code.co_name == asker
        return asked > count

    return stop


def steps_of(folder):
    return [row for row in read_rows(folder) if row["kind"] == "step"]


# Exact resume


@pytest.mark.parametrize("look_ahead", [1, 2])
@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_a_run_that_stops_at_every_step_equals_one_that_never_stops(
    tmp_path, optimizer, look_ahead
):
    run = partial(train, Toy(), optimizer, online(look_ahead), total_steps=11, eval_every=4, clip=1)
    whole = run(folder=tmp_path / "whole")
    for step in range(11):
        with pytest.raises(StoppedError) as stopped:
            run(folder=tmp_path / "parts", stop=stop_when(1 if step else 0))
        assert stopped.value.step == step and stopped.value.folder == tmp_path / "parts"
        # each attempt begins by asking, so the first one saves before any step
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")
    assert float(whole.state.updates) == 3 and len(whole.state.snapshots) == 1


@pytest.mark.parametrize("asks", [0, 1, 2, 3, 5])
def test_a_search_that_is_interrupted_begins_anew(tmp_path, asks):
    run = partial(train, Toy(), SGD, online(2), total_steps=8, eval_every=2)
    whole = run(folder=tmp_path / "whole")
    with pytest.raises(StoppedError) as stopped:
        run(folder=tmp_path / "parts", stop=stop_when(asks, asker="loss_of"))
    assert stopped.value.step == (2 if asks < 3 else 5)  # the steps that update phi
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


class Counted(NamedTuple):
    trials: torch.Tensor


class CountsInPlace(HeavyProber):
    """Counts its trials in its own tensor before they are over."""

    def init(self):
        return Counted(torch.zeros(()))

    def __call__(self, view, state):
        state.trials.add_(1)
        with view.sandbox.trial() as trial:
            trial.step(0.1)
            trial.step(0.1)
        return 0.01 * float(state.trials), state


def test_an_interrupted_search_leaves_no_trace_in_the_controller_s_state(tmp_path):
    run = partial(train, Toy(), SGD, CountsInPlace(), total_steps=4)
    whole = run(folder=tmp_path / "whole")
    for asks in (1, 0, 3):
        with pytest.raises(StoppedError):
            run(folder=tmp_path / "parts", stop=stop_when(asks, asker="loss_of"))
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


@pytest.mark.parametrize("save_every", [1, 2, 3, 0])
def test_a_run_that_dies_goes_on_from_its_last_save(tmp_path, monkeypatch, save_every):
    """Rows after the save, and a line of which only a part was written, are cut off."""
    run = partial(train, Toy(), SGD, online(), total_steps=9, save_every=save_every)
    whole = run(folder=tmp_path / "whole")
    monkeypatch.setattr(loop, "_FLUSH_SECONDS", -1.0)  # so each step is written at once
    for death in (2, 6, 8):
        with pytest.raises(KeyboardInterrupt):
            run(listener=dies_at(death), folder=tmp_path / "parts")
        assert steps_of(tmp_path / "parts")[-1]["step"] == death
        with open(tmp_path / "parts" / NAME, "a") as file:
            file.write('{"kind":"step","st')
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def dies_at(step):
    def listen(row):
        if row["kind"] == "step" and row["step"] == step:
            raise KeyboardInterrupt

    return listen


def test_a_run_that_dies_before_its_test_is_tested_then(tmp_path):
    run = partial(train, Toy(), SGD, Cosine(0.1), total_steps=7)
    whole = run(folder=tmp_path / "whole")

    def dies(row):
        if row.get("split") == "test":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder=tmp_path / "parts", listener=dies)
    lines = (tmp_path / "parts" / NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / "parts" / NAME).write_bytes(b"".join(lines[:-1]))  # nor did its end get written
    assert difference(ends(whole), ends(run(folder=tmp_path / "parts"))) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def test_a_save_that_fails_leaves_the_old_state(tmp_path, monkeypatch):
    run = partial(train, Toy(), SGD, online(), total_steps=9, save_every=2)
    whole = run(folder=tmp_path / "whole")
    saves = Counter()

    def breaks(value, file):
        saves["begun"] += 1
        if saves["begun"] == 3:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        return real(value, file)

    real = torch.save
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(torch, "save", breaks)
        run(folder=tmp_path / "parts")
    assert torch.load(tmp_path / "parts" / STATE, weights_only=True)["step"] == 4
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def test_a_record_that_was_cut_behind_the_state_s_back_is_refused(tmp_path):
    run = partial(train, Toy(), SGD, Fixed(), total_steps=9, folder=tmp_path)
    with pytest.raises(StoppedError):
        run(stop=stop_when(4))
    (tmp_path / NAME).write_bytes(b"")
    with pytest.raises(ValueError, match=r"shorter than .* remove the folder"):
        run()


# One run per folder


def test_a_finished_run_is_only_read(tmp_path, monkeypatch):
    run = partial(train, Toy(), SGD, online(), total_steps=7, folder=tmp_path)
    first, content = run(), (tmp_path / NAME).read_bytes()
    told = []
    monkeypatch.setattr(Toy, "batch", None)
    again = run(listener=told.append)
    assert difference(ends(first), ends(again)) == ""
    assert again.seconds == first.seconds and again.folder == tmp_path and told == []
    assert (tmp_path / NAME).read_bytes() == content


@pytest.mark.parametrize("finish", [False, True])
def test_another_controller_is_refused_in_the_same_folder(tmp_path, finish):
    stop = None if finish else stop_when(3)
    try:
        train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path, stop=stop)
    except StoppedError:
        assert not finish
    before = (tmp_path / NAME).read_bytes(), (tmp_path / STATE).read_bytes()
    with pytest.raises(ValueError, match=r"run with controller Cosine\(.*not Cosine\(peak=0.2"):
        train(Toy(), SGD, Cosine(0.2), total_steps=6, folder=tmp_path)
    with pytest.raises(ValueError, match=r"run with total_steps 6, not 7"):
        train(Toy(), SGD, Cosine(0.1), total_steps=7, folder=tmp_path)
    assert ((tmp_path / NAME).read_bytes(), (tmp_path / STATE).read_bytes()) == before


def test_counts_of_the_controller_are_in_the_end_row(tmp_path):
    safe = Fallback(Cosine(0.1), Cosine(0.2), 0.0, 1e-3)
    train(Toy(), SGD, safe, total_steps=6, folder=tmp_path)
    assert read_rows(tmp_path)[-1]["num_fallbacks"] == 6


def test_a_folder_in_use_is_refused(tmp_path):
    run = partial(train, Toy(), SGD, Fixed(), total_steps=2, folder=tmp_path)
    with locked(tmp_path), pytest.raises(LockedError, match="in use by process"):
        run()
    assert run().status == "finished"


HOLDER = """
import fcntl, os, sys
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(str(os.getpid()))
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_another_process_is_seen_and_ends_with_it(tmp_path):
    run = partial(train, Toy(), SGD, Fixed(), total_steps=2, folder=tmp_path)
    command = [sys.executable, "-S", "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"in use by process {holder.pid};.*run elsewhere"):
            run()
        assert not (tmp_path / NAME).exists()
        holder.kill()
    assert run().status == "finished"


# A loss that is not finite


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
        monkeypatch.setattr(loop, "_is_known_bad", lambda loss: False)
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
    monkeypatch.setattr(loop, "_is_known_bad", lambda loss: False)
    run = partial(train, Poisoned(), SGD, Fixed(), total_steps=20, save_every=20, folder=tmp_path)
    with pytest.raises(StoppedError):
        run(stop=stop_when(9))
    assert run().status == "diverged at step 6"
    assert [row["step"] for row in steps_of(tmp_path)] == list(range(6))


def test_an_unusable_rate_is_the_controller_s_fault_if_the_loss_is_finite(finding):
    with pytest.raises(ValueError, match="LossRate returned the rate nan at step 0"):
        train(Toy(), SGD, LossRate(math.nan), total_steps=3)
    with pytest.raises(ValueError, match=r"Fixed returned the rate -1\.0 at step 0"):
        train(Toy(), SGD, Fixed(-1.0), total_steps=3)


# Costs, evaluations and the record


def test_costs_add_up(tmp_path):
    outcome = train(Toy(), SGD, HeavyProber(), total_steps=6, folder=tmp_path, eval_every=2)
    per_step = 1 / 3 + 2 + 3 + 2 / 3  # what the prober does; all batches are of one size
    for row in steps_of(tmp_path):
        assert row["search_cost"] == pytest.approx((row["step"] + 1) * per_step)
        assert row["cost"] == pytest.approx((row["step"] + 1) * (1 + per_step))
    for row in read_rows(tmp_path):
        if row["kind"] == "eval":
            assert row["cost"] == pytest.approx(row["step"] * (1 + per_step))
    assert outcome.cost == pytest.approx(6 * (1 + per_step))
    assert outcome.search_cost == pytest.approx(6 * per_step)


@dataclass(frozen=True)
class Watched(Toy):
    asked: list = field(default_factory=list)

    def batch(self, split, index, draw=None):
        self.asked.append(split)
        return super().batch(split, index, draw)


def test_the_test_data_are_read_once_at_the_end(tmp_path):
    task = Watched()
    run = partial(train, task, SGD, Fixed(), total_steps=12, eval_every=3, folder=tmp_path)
    with pytest.raises(StoppedError):
        run(stop=stop_when(7))
    outcome = run()
    # 12 steps; 4 evaluations of 2 batches; one test of 2 batches at the last and the best weights
    assert Counter(task.asked) == {"train": 12, "val": 4 * 2, "test": 2 * 2}
    assert task.asked[-4:] == ["test"] * 4
    rows = [row for row in read_rows(tmp_path) if row["kind"] == "eval"]
    assert [(row["step"], row["split"], row["weights"]) for row in rows] == [
        *((step, "val", "current") for step in (3, 6, 9, 12)),
        (12, "test", "last"),
        (12, "test", "best"),
    ]
    for row in rows[-2:]:
        assert {k: row[k] for k in ("loss", "accuracy")} == outcome.test[row["weights"]]


@dataclass(frozen=True)
class GoesAstray(Fixed):
    """Learns for eight steps, then takes one that is far too long."""

    def __call__(self, view, state):
        return (30.0 if view.step == 8 else self.rate), state


def test_best_are_the_weights_that_score_best_on_val(tmp_path):
    plain = partial(torch.optim.SGD, lr=1.0)
    run = partial(train, Toy(batch_size=64, norm=False), plain, GoesAstray(1.0), eval_every=2)
    outcome = run(total_steps=12, folder=tmp_path)
    scores = [row for row in read_rows(tmp_path) if row.get("split") == "val"]
    best = max(scores, key=lambda row: row["accuracy"])  # the first of the best
    assert best["step"] <= 8 and scores[-1]["accuracy"] < best["accuracy"]
    assert (
        run(total_steps=best["step"]).test["last"] == outcome.test["best"] != outcome.test["last"]
    )


@dataclass(frozen=True)
class Valley(Toy):
    """One weight w from 1 on; loss w^2 / 2, so its gradient is w. There is no accuracy."""

    num_classes: int = field(default=0, init=False)

    def model(self):
        model = nn.Module()
        model.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        return model

    def loss(self, model, batch):
        return (model.weight**2).sum() / 2

    def metrics(self, model, batch):
        return {"loss": self.loss(model, batch)}


def test_best_is_the_lowest_loss_where_there_is_no_accuracy():
    outcome = train(
        Valley(), partial(torch.optim.SGD, lr=1.0), GoesAstray(0.5), total_steps=10, eval_every=1
    )
    # w halves eight times, then w <- w - 30 w = -29 w, then it halves again
    assert outcome.test["best"]["loss"] == (0.5**8) ** 2 / 2
    assert outcome.test["last"]["loss"] == (29 * 0.5**9) ** 2 / 2


@dataclass(frozen=True)
class Restarts:
    """After a step at the rate 0.1, half of the weight plus one."""

    needs = Need.PARAMS

    def init(self):
        return NoState()

    def __call__(self, view, state):
        return Average(0.1, 0.5, tuple(torch.ones_like(p) for p in view.params)), state


def test_an_average_is_applied_after_the_step(tmp_path):
    seen = []

    @dataclass(frozen=True)
    class Seeing(Restarts):
        def __call__(self, view, state):
            seen.append(view.params[0].item())
            return super().__call__(view, state)

    outcome = train(
        Valley(), partial(torch.optim.SGD, lr=1.0), Seeing(), total_steps=3, folder=tmp_path
    )
    # w <- 0.9 w / 2 + 1
    assert [*seen, outcome.model.weight.item()] == pytest.approx([1.0, 1.45, 1.6525, 1.743625])
    assert [row["lr"] for row in steps_of(tmp_path)] == [0.1] * 3
    assert outcome.val["loss"] == pytest.approx(1.743625**2 / 2)


def test_each_nth_step_is_recorded(tmp_path):
    run = partial(train, Toy(), SGD, LossRate(), total_steps=10)
    run(folder=tmp_path / "all")
    run(folder=tmp_path / "some", record_every=4)
    some = [{k: v for k, v in row.items() if k != "seconds"} for row in steps_of(tmp_path / "some")]
    all_ = [{k: v for k, v in row.items() if k != "seconds"} for row in steps_of(tmp_path / "all")]
    assert [row["step"] for row in some] == [0, 4, 8]
    assert some == all_[::4]
    assert some[1]["cost"] == 5.0 and some[1]["lr"] == pytest.approx(0.1 * some[1]["loss"])


def test_the_header_says_what_a_result_depends_on(tmp_path):
    more = {"command": "train", "method": "cosine", "config": {"path": tmp_path, "x": math.inf}}
    train(Toy(), ADAM, Cosine(0.1), total_steps=3, seed=5, folder=tmp_path, header=more)
    header = read_rows(tmp_path)[0]
    versions = header.pop("versions")
    assert versions["torch"] == torch.__version__ and set(versions) == {
        "python",
        "torch",
        "meta_lr",
    }
    assert isinstance(header.pop("hardware"), str) and "commit" in header
    del header["commit"]
    assert header == {
        "kind": "header",
        "format": record.FORMAT,
        "command": "train",
        "task": "toy",
        "model": "Net",
        "optimizer": "adam",
        "method": "cosine",
        "controller": "Cosine(peak=0.1, floor=0.0)",
        "seed": 5,
        "total_steps": 3,
        "steps_per_epoch": 5,
        "config": {"path": str(tmp_path), "x": "inf"},
        "threads": torch.get_num_threads(),
    }


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = train(Toy(), SGD, online(), total_steps=7, folder=tmp_path / "kept")
    told = []
    plain = train(Toy(), SGD, online(), total_steps=7, listener=told.append)
    assert difference(ends(kept), ends(plain)) == "" and plain.folder is None
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    rows = read_rows(tmp_path / "kept")
    drop = "seconds"
    assert [{k: v for k, v in row.items() if k != drop} for row in told] == [
        {k: v for k, v in row.items() if k != drop} for row in rows
    ]


def test_numbers_that_json_does_not_have_are_written_as_strings(tmp_path):
    row = {"kind": "eval", "loss": math.nan, "low": -math.inf, "high": [math.inf, 1.5]}
    recorder = record.Recorder(lambda row: None)
    recorder.open(tmp_path)
    recorder.add(row)
    recorder.flush()
    recorder.close()
    line = json.loads((tmp_path / NAME).read_text())
    assert line == {"kind": "eval", "loss": "nan", "low": "-inf", "high": ["inf", 1.5]}
    (back,) = read_rows(tmp_path)
    assert math.isnan(back["loss"]) and back["low"] == -math.inf


def test_a_run_takes_at_least_one_step():
    with pytest.raises(ValueError, match="total_steps is 0"):
        train(Toy(), SGD, Constant(0.1), total_steps=0)


def test_one_seed_for_the_run_and_one_for_the_task():
    def end(seed, task_seed):
        task = replace(Toy(), seed=task_seed)
        return ends(train(task, SGD, Fixed(), total_steps=4, seed=seed))

    assert end(0, 0) == end(0, 0)
    assert end(1, 0) != end(0, 0) != end(0, 1)  # other dropout masks; other data and weights


def test_another_seed_is_refused_in_the_same_folder(tmp_path):
    train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path)
    with pytest.raises(ValueError, match="run with seed 0, not 1"):
        train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path, seed=1)


def test_a_finished_record_without_its_state_and_a_damaged_state_are_refused(tmp_path):
    train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path)
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"state.pt is damaged .*; remove its folder"):
        train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path)
    state.unlink()
    with pytest.raises(ValueError, match=r"finished run, but no state.pt"):
        train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path)


def test_an_overflow_in_the_last_update_is_a_divergence():
    class Leap(Fixed):
        def __call__(self, view, state):
            return (1e30 if view.step == 5 else 0.1), state

    outcome = train(Toy(norm=False), SGD, Leap(), total_steps=6)
    assert outcome.status == "diverged at step 6"
    assert outcome.test == {}


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="has no batch of split train"):
        train(Toy(batches=0), SGD, Cosine(0.1), total_steps=6)


def test_the_ratio_of_groups_is_that_of_their_first_rates():
    def grouped(params):
        return torch.optim.SGD([{"params": params[:2]}, {"params": params[2:], "lr": 0.2}], lr=0.1)

    class Pause(Fixed):
        @property
        def needs(self):
            return Need.TRIALS

        def __call__(self, view, state):
            with view.sandbox.trial() as trial:
                trial.step(0.1)
                ratio = [g["lr"] for g in trial.optimizer.param_groups]
            assert ratio == pytest.approx([0.1, 0.2])
            return (0.0 if view.step == 2 else 0.1), state

    assert train(Toy(), grouped, Pause(), total_steps=5).status == "finished"
