"""The real command is killed again and again, and ends as if nothing had happened."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time

import pytest
import torch

from meta_lr.testing.compare import difference, leaves
from meta_lr.training.loop import STATE
from meta_lr.training.record import NAME, finished

COMMAND = [
    *(sys.executable, "-m", "meta_lr", "meta-train", "task=digits", "total_steps=150"),
    *("model=wrn28_10", "model.depth=10", "model.widen_factor=1", "model.dropout=0.3"),
    *("optimizer=adam", "lr.gamma=0.02", "lr.period=10", "lr.look_ahead=2", "net.hidden=8"),
    *("save_every=5", "eval_every=20", "threads=1"),
]
SECONDS = re.compile(rb',"seconds":[-+.e0-9]+')
KILLS = 5


def record(place):
    """The record of the one run below `place`, if it has begun."""
    return next(place.glob(f"runs/meta_train/*/{NAME}"), None)


def num_lines(place):
    path = record(place)
    return path.read_bytes().count(b"\n") if path else 0


def start(place):
    return subprocess.Popen(COMMAND, cwd=place, stdout=subprocess.DEVNULL)


def kill(place, *, lines, seconds):
    """Start the command; kill it once the record has grown by `lines`, some `seconds` later."""
    before, most = num_lines(place), 0
    with start(place) as process:
        while most < before + lines:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.002)
            most = max(most, num_lines(place))
        time.sleep(seconds)
        process.kill()
    assert process.returncode == -9


def results(place):
    """Weights, phi and the rest of the state; the checkpoint; the record without seconds."""
    folder = record(place).parent
    state = torch.load(folder / STATE, weights_only=True)
    del state["seconds"], state["offset"]  # both depend on how the times are written
    checkpoint = (folder / "checkpoint" / "model.safetensors").read_bytes()
    return state, checkpoint, SECONDS.sub(b"", (folder / NAME).read_bytes())


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """BatchNorm, dropout, Adam; phi learns through a look-ahead of two steps."""
    draw, whole, parts = random.Random(0), tmp_path / "whole", tmp_path / "parts"
    for place in (whole, parts):
        place.mkdir()
    for _ in range(KILLS):
        kill(parts, lines=draw.randint(1, 22), seconds=draw.uniform(0.0, 0.05))
        assert not finished(record(parts).parent)
    for place in (parts, whole):
        with start(place) as process:
            assert process.wait() == 0
    state, checkpoint, rows = results(parts)
    expected, checkpoint_of_whole, rows_of_whole = results(whole)
    assert state["step"] == 150 and float(state["state"]["updates"]) == 15
    assert any("running_mean" in name for name in state["model"])
    assert difference(leaves(expected), leaves(state)) == ""
    assert checkpoint == checkpoint_of_whole
    assert rows == rows_of_whole
