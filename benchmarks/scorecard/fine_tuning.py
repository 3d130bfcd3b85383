"""Measure learned schedules in fine-tuning and in runs whose length changes.

    python -m benchmarks.scorecard.fine_tuning self-tuning=runs/.../checkpoint [NAME=CHECKPOINT ...]
        [--only fine-tuning] [--problems 4] [--seeds 3] [--store runs/fine_tuning.jsonl]

Fine-tuning: a network is trained on one task. Then all its weights are trained on a second task
with few examples: other classes, noisy images or other labels. Run length: a schedule planned for T
steps is stopped early or continues for T more steps, or it was planned for 4 T because the length
was not known. The learned schedules are not tuned.

The measure is the log of the validation loss, in nats. The tuned cosine has a warm-up. Its peak is
chosen from eight or more on three seeds of the same problem, and scored on other seeds. In runs of
another length it keeps the peak that is best for T. The usual peak is the best one from scratch
over all networks and optimizers of fine-tuning. A problem is a failure if one of its runs diverged,
or if its mean is 0.1 nats above that of a cosine at a tenth of the usual peak. The confidence
interval of a mean counts each family (a kind of second task, or a family of the scorecard) as one
observation.

Each run is written to the store at once. If the command is killed, run it again to continue.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import torch
from rich.progress import track

from benchmarks.scorecard.arguments import CONTROL, parsed, parser
from benchmarks.scorecard.fine_tuning_runs import PARTS, SCRATCH, asked, best, missing, run
from benchmarks.scorecard.fine_tuning_tables import TABLES
from benchmarks.scorecard.learned import silent
from benchmarks.scorecard.runs import TUNED
from benchmarks.scorecard.store import Key, Row, Store
from meta_lr.methods.self_tuning.schedule import SelfTuning


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the missing runs, and print the tables."""
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
    """Run all keys without a row in the store; return the rows of these keys."""
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
    taken = {TUNED, CONTROL, *(name for part in PARTS.values() for name in part.cosines)}
    made = parser("scorecard.fine_tuning", __doc__, "runs/fine_tuning.jsonl", taken)
    made.add_argument("--only", choices=PARTS, help="one of the two questions")
    made.add_argument("--problems", type=int, default=4, help="of each family")
    made.add_argument("--seeds", type=int, default=3, help="that score all methods")
    return parsed(made, arguments, problems=1, seeds=2)


if __name__ == "__main__":
    main()
