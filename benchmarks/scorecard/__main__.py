"""Learned schedules, untuned, against tuned cosines on families that nothing was chosen on.

    python -m benchmarks.scorecard self-tuning=runs/.../checkpoint [NAME=CHECKPOINT ...]
        [--problems 10] [--store runs/scorecard.jsonl]

For each problem of each held-out family, cosines and lines to zero with a warm-up run at eight
peaks or more; three seeds choose the best shape and peak, three others score it (the re-seeded
oracle). Schedules run on those three with no choice at all. The measure is the log of the final
validation loss, nats, less the oracle's; below zero is better. "one global peak" is the shape and
peak that are best over problems of meta-training's own family. Its learning rate is scaled for each
optimizer as those of the oracle are (SGD 1, momentum 0.1, Adam 0.01). The control "no network" is
the same schedule with all weights at zero.

Killed, the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import track

from benchmarks.scorecard.runs import Runs, asked, run
from benchmarks.scorecard.table import lines, results
from meta_lr import checkpoint
from meta_lr.schedulers.self_tuning import NETWORK, SelfTuning

CONTROL = "no network"


def named(text: str) -> tuple[str, SelfTuning]:
    """Return the schedule of NAME=CHECKPOINT."""
    name, equals, place = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r}; needed is NAME=CHECKPOINT")
    try:
        found, _ = checkpoint.load(checkpoint.find(place))
    except checkpoint.CheckpointError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(found, SelfTuning):
        raise argparse.ArgumentTypeError(f"{place} does not find its own learning rate")
    return name, found


def control() -> SelfTuning:
    """Return the schedule whose network is silent: a line to zero, with retreats and clamps."""
    silent = tuple(torch.zeros_like(weight) for weight in NETWORK.init(0))
    return SelfTuning(silent)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scorecard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("schedules", nargs="+", type=named, metavar="NAME=CHECKPOINT")
    parser.add_argument("--problems", type=int, default=10, help="of each family")
    parser.add_argument("--store", type=Path, default=Path("runs/scorecard.jsonl"))
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    schedules = {CONTROL: control(), **dict(args.schedules)}
    runs = Runs(args.store)
    runs.cut()
    done = runs.rows()
    for key in track(list(asked(range(args.problems), schedules)), "scorecard"):
        if not _kept(done.get(key), schedules):
            runs.add(run(key, schedules))
    found, (shape, decade) = results(runs.rows(), list(schedules))
    print(f"one global peak: a {shape} at {10**decade:.3g} (SGD's unit)\n")
    print("\n".join(lines(found)))


def _kept(row: object, schedules: dict[str, SelfTuning]) -> bool:
    """Return whether a row is there, and is that of the same schedule."""
    if not isinstance(row, dict):
        return False
    schedule = schedules.get(row["method"])
    return schedule is None or row["fingerprint"] == schedule.fingerprint


if __name__ == "__main__":
    main()
