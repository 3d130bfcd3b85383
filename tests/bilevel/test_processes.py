"""Several processes of one meta-training: the same phi, also after they died or were stopped."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from meta_lr.bilevel import trainer
from meta_lr.bilevel.es import PersistentES
from meta_lr.bilevel.meta_training import Plan
from meta_lr.bilevel.objectives import Mean
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.bilevel.trainer import STATE, meta_train, share
from meta_lr.bilevel.windows import Fixed
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.mlp import MLP
from meta_lr.testing.compare import difference, leaves
from tests.killing import EPISODIC, grown, record, timeless

COMMAND = [*EPISODIC, "estimator.pairs=2"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def part(workers, *, owed=0.0):
    """What a process saves that takes these workers on; each slot is its worker's name."""
    return {
        "update": 3,
        "owed": owed,
        "begun": {worker: 10 * worker for worker in workers},
        "curves": {worker + 100: "curve" for worker in workers},
        "goals": {workers[0]: 0.5},
        "slots": [f"worker {worker}" for worker in workers],
    }


def test_the_same_number_of_processes_gets_back_what_each_saved():
    parts = [part([0, 2], owed=1.0), part([1, 3], owed=2.0)]
    assert [share(parts, place, 2) for place in (0, 1)] == parts


def test_another_number_of_processes_shares_the_same_workers():
    parts = [part([0, 2, 4], owed=1.0), part([1, 3], owed=2.0)]
    dealt = [share(parts, place, 3) for place in range(3)]
    slots = [["worker 0", "worker 3"], ["worker 1", "worker 4"], ["worker 2"]]
    assert [one["slots"] for one in dealt] == slots
    assert [one["begun"] for one in dealt] == [{0: 0, 3: 30}, {1: 10, 4: 40}, {2: 20}]
    assert [one["owed"] for one in dealt] == [3.0, 0.0, 0.0]
    assert all(set(one["curves"]) == {100, 101, 102, 103, 104} for one in dealt)
    assert all(one["goals"] == {0: 0.5, 1: 0.5} and one["update"] == 3 for one in dealt)


def test_more_processes_than_episodes_are_refused(monkeypatch):
    monkeypatch.setattr(trainer, "num_ranks", lambda: 3)
    plan = Plan(DigitsProblems(), PersistentES(), Mean(), Fixed(), episodes=2)
    net = MLP(hidden=(2,))
    phi = net.init(0)
    with pytest.raises(ValueError, match=r"episodes=2, and 3 processes share them.*episodes=3"):
        meta_train(plan, Learned(net, [phi], 1.0), phi)


def workers(warm, place):
    """Start both processes of the command, as torchrun does, with their environment variables."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    ranks = ({**group, "WORLD_SIZE": "2", "RANK": str(rank)} for rank in (0, 1))
    return [warm.start(place, COMMAND, env) for env in ranks]


def ended(processes):
    """Wait for the processes; return their exit codes and what they said on stderr."""
    done = [process.done() for process in processes]
    return [one.code for one in done], [one.err for one in done]


def results(place):
    """All processes' parts of the state; the checkpoint; the record without seconds."""
    folder = record(place).parent
    parts = torch.load(folder / STATE, weights_only=True)["parts"]
    return parts, (folder / "checkpoint" / "model.safetensors").read_bytes(), timeless(place)


def torchrun(place):
    command = [*TORCHRUN, "-m", "meta_lr", *COMMAND]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_are_one_however_they_end(tmp_path, warm):
    """Over 10 s: torchrun starts three new processes, each of which imports torch."""
    draw = random.Random(0)
    whole, parts, other, alone = (tmp_path / name for name in ("whole", "parts", "other", "alone"))
    for place in (whole, parts, alone):
        place.mkdir()
    assert torchrun(whole).count("begins, 15 updates") == 1, "one process speaks"

    dying = workers(warm, parts)
    grown(parts, dying, lines=draw.randint(5, 9))
    first = draw.randint(0, 1)
    dying[first].kill()
    codes, said = ended([dying[1 - first], dying[first]])
    assert codes == [1, -9] and f"process {1 - first} lost another one" in said[0]

    stopped = workers(warm, parts)
    grown(parts, stopped, lines=2)
    stopped[1].send_signal(signal.SIGINT)  # one is asked, all stop
    codes, said = ended(stopped)
    assert codes == [130, 130] and said[1] == ""
    assert "updates of phi, saved in" in said[0]

    shutil.copytree(parts, other)
    assert ended(workers(warm, parts))[0] == [0, 0]
    found, expected = results(parts), results(whole)
    assert difference(leaves(expected[0]), leaves(found[0])) == ""
    assert found[1:] == expected[1:]
    assert difference(leaves(found[0][0]["phi"]), leaves(found[0][1]["phi"])) == ""

    for place in (alone, other):  # one process from the start, and from where two stopped
        assert warm.run(place, COMMAND).code == 0
        (mine,) = results(place)[0]
        for name in ("phi", "best"):
            for a, b in zip(mine[name], found[0][0][name], strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
        assert found[0][0]["cost"] == pytest.approx(mine["cost"], rel=0.2), (
            "both may make the same curve"
        )
        assert mine["best_score"] == pytest.approx(found[0][0]["best_score"], abs=1e-6)
