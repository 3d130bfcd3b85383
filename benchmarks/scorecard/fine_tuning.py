"""Learned schedules, untuned, in fine-tuning and in runs whose length changes.

    python -m benchmarks.scorecard.fine_tuning self-tuning=runs/.../checkpoint [NAME=CHECKPOINT ...]
        [--only fine-tuning] [--problems 4] [--seeds 3] [--store runs/fine_tuning.jsonl]

Fine-tuning: a network is trained on one task, then all its weights on a second task with few
examples: other classes, noisy images or other labels. Run length: a schedule planned for T steps is
stopped early, goes on for T more steps, or was planned for 4 T since the length was not known.

The measure is the log of the validation loss, nats. The tuned cosine has a warm-up; its peak is
chosen on three seeds of the same problem, from eight or more, and scored on others. In runs of
another length it keeps the peak that is best for T. The usual peak is the one that is best from
scratch over all networks and optimizers of fine-tuning. A failure is a problem with a run that
diverged, or whose mean is 0.1 nats above that of a cosine at a tenth of the usual peak. Intervals
of a mean count each family (a kind of second task, or a family of the scorecard) as one
observation.

Each run is kept in the store at once. Killed, the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.progress import track

from benchmarks.scorecard.__main__ import CONTROL, named
from benchmarks.scorecard.fine_tuning_runs import PARTS, SCRATCH, asked, best, missing, run
from benchmarks.scorecard.fine_tuning_tables import TABLES
from benchmarks.scorecard.learned import silent
from benchmarks.scorecard.store import Key, Row, Store
from meta_lr.schedulers.self_tuning import SelfTuning


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the tables."""
    args = _parsed(arguments)
    torch.set_num_threads(1)
    schedules = {**dict(args.schedules), CONTROL: silent()}
    parts = [args.only] if args.only else list(PARTS)
    keys = list(asked(range(args.problems), list(schedules), parts))
    found = fill(Store(args.store), keys, schedules, args.seeds)
    scratch = [row for (family, _, _), row in found.items() if family == SCRATCH]
    if scratch:
        print(f"usual peak from scratch: {10 ** best(scratch):.3g} (SGD's unit)")
    for part in parts:
        for title, table in TABLES[part].items():
            print("\n".join(["", title, "", *table(found, list(schedules))]))


def fill(
    store: Store, keys: Sequence[Key], schedules: Mapping[str, SelfTuning], seeds: int
) -> dict[Key, Row]:
    """Run what the store does not hold; return the rows of these keys."""
    store.cut()
    rows = store.rows()
    known: dict[Key, Row] = {}
    for key in track(keys, "fine-tuning and run lengths"):
        if missing(rows, key, schedules, seeds):
            rows[key] = run(known, key, schedules, seeds)
            store.add(rows[key])
        known[key] = rows[key]
    return known


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scorecard.fine_tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("schedules", nargs="+", type=named, metavar="NAME=CHECKPOINT")
    parser.add_argument("--only", choices=PARTS, help="one of the two questions")
    parser.add_argument("--problems", type=int, default=4, help="of each family")
    parser.add_argument("--seeds", type=int, default=3, help="that score all methods")
    parser.add_argument("--store", type=Path, default=Path("runs/fine_tuning.jsonl"))
    args = parser.parse_args(arguments)
    names = [name for name, _ in args.schedules]
    if len(set(names)) < len(names):
        parser.error(f"a name comes twice in {', '.join(names)}; give each checkpoint its own")
    for name in names:
        if any(name in part.cosines for part in PARTS.values()):
            parser.error(f"{name!r} is the name of another row; choose another")
    for name, least in (("problems", 1), ("seeds", 2)):
        if getattr(args, name) < least:
            parser.error(f"--{name} {getattr(args, name)}; at least {least} is needed")
    return args


if __name__ == "__main__":
    main()
