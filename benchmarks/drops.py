"""When a run of AutoDrop dropped its rate, and how noisy its angle was: what its controls need.

    python -m benchmarks.drops runs/train

Reads the runs of `lr=autodrop`, without noise, at or below the folder; they have to record each
step's rate (`record.every=1`) and, with `record.angle=true` and `record.angle_every` equal to
`lr.k`, the angle. Of each it prints two overrides: `lr.noise=`, for a twin that is fed noise, and
`lr.l=[...]`, for `lr=nstep` to drop at the same steps. The noise is that of the windows between two
drops, where the rate is constant: the root mean square of an angle's difference from the one
before, over the root of two, so that neither a trend nor another rate counts as noise.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from meta_lr.lrbench.folders import run_folders
from meta_lr.records.reader import Record, read_record


def drops_of(record: Record) -> list[int]:
    """Return the steps whose rate is lower than that of the step before."""
    return [b["step"] for a, b in pairwise(record.steps) if b["lr"] < a["lr"]]


def noise_of(angles: Mapping[int, float], drops: Sequence[int]) -> float:
    """Return the standard deviation of the angle, in degrees, between drops.

    Args:
        angles: By the number of steps after which they were taken.
        drops: The first step at each new rate, which that angle decided.

    >>> round(noise_of({2: 30.0, 4: 34.0, 6: 30.0, 8: 90.0, 10: 94.0}, [6]), 3)
    2.828
    """
    steps = sorted(angles)
    changes = [
        angles[b] - angles[a]
        for a, b in pairwise(steps)
        if not any(a <= drop < b for drop in drops)
    ]
    return math.sqrt(sum(change**2 for change in changes) / (2 * len(changes)))


def missing(record: Record) -> str:
    """Return what the record of a run lacks to be described, "" if it lacks nothing."""
    steps = [row["step"] for row in record.steps]
    if steps != list(range(len(steps))):
        return "the rate of each step: set record.every=1"
    angles = [row["step"] for row in record.angles]
    if angles[:1] != [
        3 * record.header["config"]["lr"]["k"]
    ]:  # the first one is after three windows
        return "the angles it decided by: set record.angle=true and record.angle_every=lr.k"
    if not drops_of(record):
        return "any drop"
    return ""


def described(record: Record) -> str:
    """Return the lines about a run that has dropped its rate."""
    drops = drops_of(record)
    angles = {row["step"]: row["angle"] for row in record.angles}
    windows = drops[-1] / record.header["config"]["lr"]["k"] / len(drops)
    return (
        f"seed {record.header['seed']}: {len(drops)} drops, one in {windows:.1f} windows; angle "
        f"{statistics.fmean(angles.values()):.1f} degrees in the mean\n"
        f"  lr.noise={noise_of(angles, drops):.2f} lr.l={str(drops).replace(' ', '')}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Drops and noise of AutoDrop's runs.")
    parser.add_argument("folder", type=Path)
    found = [read_record(place) for place in run_folders(parser.parse_args().folder)]
    for record in sorted(found, key=lambda record: record.header["seed"]):
        head = record.header
        if head["method"] == "autodrop" and head["config"]["lr"]["noise"] is None:
            lacks = missing(record)
            print(f"seed {head['seed']}: without {lacks}" if lacks else described(record))


if __name__ == "__main__":
    main()
