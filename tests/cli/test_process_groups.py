"""Commands in several processes, as `torchrun` starts them."""

import os
import signal
import time
from functools import partial

import pytest

from meta_lr.cli.main import main
from meta_lr.cli.processes import process_group
from meta_lr.records.reader import NAME, read_record
from meta_lr.training.compute import Compute
from meta_lr.training.loop import train
from tests.controllers import Says
from tests.ranks import on_ranks
from tests.short_runs import SGD, ends
from tests.toys import Toy

SHORT = ["total_steps=12", "model.hidden=[8]", "parts=2", "threads=1"]
EPISODES = [
    *("updates=2", "episodes=2", "pool=2", "held_out=2", "evaluate_every=1"),
    *("problems.widths=[4,4]", "problems.depths=[1,1]", "problems.lengths=[4,5]"),
    *("net=mlp", "net.hidden=[2]", "start=linear", "objective=mean", "window=fixed"),
    "window.steps=3",
]
TRANSFER = ["checkpoint=meta-lr-digits", "baselines=[cosine]", "seeds=[1]"]


def both(place, command, capfd):
    """Run a command in two processes in `place`; return what they printed."""

    def work(rank):
        os.chdir(place)
        return main(command)

    place.mkdir()
    capfd.readouterr()
    assert on_ranks(2, work) == [0, 0], capfd.readouterr().err
    return capfd.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        ["train", "lr=cosine"],
        ["meta-train", "lr=mlr_snet_online", "lr.period=4"],
        ["transfer", *TRANSFER],
        ["meta-train-episodic", *EPISODES, "estimator.pairs=1"],
        ["meta-train-episodic", *EPISODES, "estimator=truncated"],
        ["meta-train-episodic", *EPISODES, "estimator=truncated_unroll"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_in_two_processes_is_the_same_as_in_one(tmp_path, monkeypatch, capfd, command):
    if command[0] != "meta-train-episodic":
        command = [*command, *SHORT]
    printed = both(tmp_path / "two", command, capfd)
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    assert main(command) == 0
    alone = capfd.readouterr().out
    assert printed.count("report: ") == alone.count("report: ") == 1  # one process prints
    records = sorted((tmp_path / "one").rglob(NAME))
    assert records
    for record in records:
        other = tmp_path / "two" / record.relative_to(tmp_path / "one")
        rows, others = read_record(record.parent).rows[1:], read_record(other.parent).rows[1:]
        assert [row.get("loss") for row in rows] == [row.get("loss") for row in others]
    files = [sorted(p.name for p in (tmp_path / n).rglob("*.safetensors")) for n in ("one", "two")]
    assert files[0] == files[1]


class Dies(Says):
    """Kills its process at step 5, if it is the second one."""

    def __call__(self, view, state):
        if view.step == 5 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(view, state)


def test_the_other_process_ends_with_one_line_and_the_run_goes_on(tmp_path, capfd):
    run = partial(train, Toy(), SGD, total_steps=8, compute=Compute(parts=2), save_every=2)

    def work(rank):
        with process_group():
            run(controller=Dies(0.1), folder=tmp_path)

    began = time.monotonic()
    first, second = on_ranks(2, work)
    assert isinstance(first, SystemExit) and first.code == 1 and second is None
    assert "process 0 lost another one" in capfd.readouterr().err
    assert time.monotonic() - began < 60
    outcome = run(controller=Dies(0.1), folder=tmp_path)
    assert ends(outcome) == ends(run(controller=Says(0.1)))


def test_parts_that_cannot_be_shared_are_one_line(tmp_path, capfd):
    def work(rank):
        os.chdir(tmp_path)
        return main(["train", "total_steps=4", "parts=3"])

    assert on_ranks(2, work) == [2, 2]
    assert "parts=3 cannot be shared equally by 2 processes; pass parts=2" in capfd.readouterr().err
