"""An episodic meta-training that dies goes on as if nothing had happened, wherever it died."""

from __future__ import annotations

import json
import random

import pytest
import torch

from meta_lr.bilevel import trainer
from meta_lr.bilevel.es import PersistentES
from meta_lr.bilevel.meta_training import Plan
from meta_lr.bilevel.objectives import Mean
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.bilevel.trainer import STATE, meta_train
from meta_lr.bilevel.windows import Fixed
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.mlp import MLP
from meta_lr.records.reader import NAME, finished, read_record, read_rows
from meta_lr.records.writer import Recorder
from meta_lr.testing.compare import difference, leaves
from tests.killing import EPISODIC, kill, record, results, timeless
from tests.times import SECONDS

KILLS = 2
PROBLEMS = DigitsProblems(widths=(4, 4), depths=(1, 1), lengths=(4, 5), batch_sizes=(16,))
PLAN = Plan(
    *(PROBLEMS, PersistentES(pairs=1), Mean(), Fixed(3)),
    **{"updates": 2, "episodes": 1, "pool": 2, "held_out": 1, "evaluate_every": 1},
)


class DeathError(RuntimeError):
    """The process dies here."""


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [["estimator.pairs=2"], ["estimator=truncated"]])
def test_killed_at_random_moments(tmp_path, warm, estimator):
    """Over 10 s: two whole meta-trainings, and one that is begun again twice."""
    draw, whole, parts = random.Random(0), tmp_path / "whole", tmp_path / "parts"
    command = [*EPISODIC, *estimator]
    for place in (whole, parts):
        place.mkdir()
    for _ in range(KILLS):
        kill(warm, parts, command, lines=draw.randint(1, 8), seconds=draw.uniform(0.0, 0.05))
        assert not finished(record(parts).parent)
    for place in (parts, whole):
        assert warm.run(place, command).code == 0
    (state, checkpoint), (expected, of_whole) = (results(record(p).parent) for p in (parts, whole))
    (part,) = state["parts"]
    assert part["update"] == 15 and part["best_score"] < 1.0
    assert any(not torch.equal(a, b) for a, b in zip(part["phi"], part["best"], strict=True))
    assert difference(leaves(expected), leaves(state)) == ""
    assert checkpoint == of_whole
    assert timeless(parts) == timeless(whole)


def deaths(monkeypatch, moment):
    """Let the process die just before it writes for the n-th time: n = `moment`."""
    written = 0

    def mortal(write):
        def dies(*arguments):
            nonlocal written
            written += 1
            if written > moment:
                raise DeathError
            return write(*arguments)

        return dies

    monkeypatch.setattr(Recorder, "flush", mortal(Recorder.flush))
    save = trainer.saving.save_atomically
    monkeypatch.setattr(trainer.saving, "save_atomically", mortal(save))


def run(folder):
    net = MLP(hidden=(2,))
    phi = net.init(0)
    return meta_train(PLAN, Learned(net, [phi], 1.0), phi, folder=folder, save_every=0.0)


@pytest.mark.slow
def test_dead_before_any_of_its_writes(tmp_path):
    whole = run(tmp_path / "whole")
    rows = SECONDS.sub(b"", (tmp_path / "whole" / NAME).read_bytes())
    moment, died = 0, True
    while died:
        folder, died = tmp_path / str(moment), False
        with pytest.MonkeyPatch.context() as patch:
            deaths(patch, moment)
            try:
                run(folder)
            except DeathError:
                died = True
        again = run(folder)
        assert difference(leaves(whole.saved()), leaves(again.saved())) == ""
        assert SECONDS.sub(b"", (folder / NAME).read_bytes()) == rows
        moment += 1
    assert moment > 8


def test_a_finished_record_without_its_state_is_refused(tmp_path):
    run(tmp_path)
    (tmp_path / STATE).unlink()
    with pytest.raises(ValueError, match=r"record of a finished run, but no state\.pt with"):
        run(tmp_path)


def test_every_update_is_recorded_as_it_is_taken(tmp_path):
    seen = []

    def listen(row):
        seen.append((row["kind"], len(read_rows(tmp_path))))

    net = MLP(hidden=(2,))
    phi = net.init(0)
    meta_train(PLAN, Learned(net, [phi], 1.0), phi, folder=tmp_path, listener=listen)
    kinds = [kind for kind, _ in seen]
    assert kinds == ["header", *("held_out", "update") * 2, "held_out", "end"]
    last = json.loads((tmp_path / NAME).read_text().splitlines()[-1])
    assert last["updates"] == 2 and last["best"] == min(
        row["score"] for row in read_record(tmp_path).held_out
    )
    assert [rows for _, rows in seen] == [2, 2, 3, 4, 5, 6, 7]
