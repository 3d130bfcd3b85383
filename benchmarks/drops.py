"""Find the drops and the angle's noise in AutoDrop's runs; its controls need these numbers.

    python -m benchmarks.drops runs/train

Reads the runs of `lr=autodrop`, without noise, at or below the folder. They must record the
learning rate of each step (`record.every=1`). They must also record the angle, with
`record.angle=true` and `record.angle_every` equal to `lr.k`. For each run it prints two overrides.
`lr.noise=` is for a twin that uses random angles, and `lr.l=[...]` is for `lr=nstep` to drop at the
same steps. The noise is measured in the windows between two drops, where the learning rate is
constant. It is the root mean square of the difference between consecutive angles, divided by the
root of two. So neither a trend nor a change of the learning rate counts as noise.
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
    """Return the steps whose learning rate is lower than that of the step before."""
    return [b["step"] for a, b in pairwise(record.steps) if b["lr"] < a["lr"]]


def noise_of(angles: Mapping[int, float], drops: Sequence[int]) -> float:
    """Return the standard deviation of the angle, in degrees, between drops.

    Args:
        angles: The angles, by the number of steps after which they were measured.
        drops: The first step at each new learning rate, which the angle at that number decided.

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
    """Return what is missing in the record of a run, "" if nothing is missing."""
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
    """Return the lines about a run that has dropped its learning rate."""
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
