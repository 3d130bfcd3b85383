"""The real command is killed again and again, and ends as if nothing had happened."""

from __future__ import annotations

import random

import pytest

from meta_lr.records.reader import finished
from meta_lr.testing.compare import difference, leaves
from tests.killing import kill, record, results, timeless

COMMAND = [
    *("meta-train", "task=digits", "total_steps=100"),
    *("model=wrn28_10", "model.depth=10", "model.widen_factor=1", "model.dropout=0.3"),
    *("optimizer=adam", "lr.gamma=0.02", "lr.period=10", "lr.look_ahead=2", "net.hidden=8"),
    *("save_every=5", "eval_every=20", "average=true", "threads=1"),
]
KILLS = 4


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path, warm):
    """BatchNorm, dropout, Adam, an average; phi learns through a look-ahead of two steps.

    Over 10 s: two whole runs, and one that is begun again four times.
    """
    draw, whole, parts = random.Random(0), tmp_path / "whole", tmp_path / "parts"
    for place in (whole, parts):
        place.mkdir()
    for _ in range(KILLS):
        kill(warm, parts, COMMAND, lines=draw.randint(1, 22), seconds=draw.uniform(0.0, 0.05))
        assert not finished(record(parts).parent)
    for place in (parts, whole):
        assert warm.run(place, COMMAND).code == 0
    state, checkpoint = results(record(parts).parent)
    expected, checkpoint_of_whole = results(record(whole).parent)
    assert state["step"] == 100 and float(state["state"]["updates"]) == 10
    assert any("running_mean" in name for name in state["model"])
    assert difference(leaves(expected), leaves(state)) == ""
    assert checkpoint == checkpoint_of_whole
    assert timeless(parts) == timeless(whole)
