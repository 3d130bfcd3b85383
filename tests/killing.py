"""Real commands that are killed with SIGKILL once their record has grown by so many lines."""

from __future__ import annotations

import time

from meta_lr.records.reader import NAME
from tests.times import SECONDS, untimed_state

EPISODIC = [  # a meta-training of a few seconds
    *("meta-train-episodic", "updates=15", "episodes=3", "pool=3", "held_out=1"),
    *("evaluate_every=7", "problems.widths=[4,8]", "problems.lengths=[6,10]"),
    *("net=mlp", "net.hidden=[4]", "start=linear", "objective=mean", "window=fixed"),
    *("window.steps=4", "meta_lr=0.05", "save_every=0"),
]


def record(place):
    """The record of the one run below `place`, if it has begun."""
    return next(place.glob(f"runs/*/*/{NAME}"), None)


def num_lines(place):
    path = record(place)
    return path.read_bytes().count(b"\n") if path else 0


def grown(place, processes, *, lines):
    """Wait until the record has grown by so many lines, which it may lose at the start."""
    before, most = num_lines(place), 0
    while most < before + lines:
        assert all(process.poll() is None for process in processes), "it ended before"
        time.sleep(0.005)
        most = max(most, num_lines(place))


def kill(warm, place, arguments, *, lines, seconds):
    """Start a command; kill it once the record has grown by `lines`, some `seconds` later."""
    with warm.start(place, arguments) as process:
        grown(place, [process], lines=lines)
        time.sleep(seconds)
        process.kill()
        process.wait()
    assert process.returncode == -9


def results(folder):
    """All of the saved state that two equal runs have in common; the checkpoint."""
    return untimed_state(folder), (folder / "checkpoint" / "model.safetensors").read_bytes()


def timeless(place):
    """The record without what differs between two equal runs."""
    return SECONDS.sub(b"", record(place).read_bytes())
