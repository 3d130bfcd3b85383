"""Compare learned schedules with tuned ones and peers on families that nothing was chosen on.

    python -m benchmarks.scorecard self-tuning=runs/.../checkpoint [NAME=CHECKPOINT ...]
        [--peers] [--robust] [--longer 2] [--problems 10] [--store runs/scorecard.jsonl]

For each problem of each held-out family, it runs cosines and lines to zero with a warm-up, at eight
peaks or more. Three seeds choose the best shape and peak, and three other seeds score it: this is
the re-seeded oracle. The learned schedules and the peers run on the scoring seeds without any
tuning. The measure is the log of the final validation loss, in nats, minus that of the oracle;
below zero is better. The confidence interval of a mean counts each family as one observation. "One
global peak" is the shape and peak that are best over problems of meta-training's own family. Its
learning rate is scaled for each optimizer like those of the oracle (SGD 1, momentum 0.1, Adam
0.01). A problem is a failure if one of its runs diverged, or if its mean is 0.1 nats above that of
the one global peak.

"+ average" is the same training, evaluated at an average of its last weights. The oracle with
average also chooses its peak with the average. The first schedule is compared with the one global
peak, family by family. It has two controls. "No network" has the same bounds with all weights of
the network at zero. In "another run's features", the network reads features that were recorded on a
problem of another family. For a checkpoint that reads fewer features, such as the loss alone, add
one more NAME=CHECKPOINT.

"--robust" runs the first schedule on the same problems with the loss, the inputs or the initial
weights multiplied. "--longer" runs the schedules, and the one global peak, five times longer than
any run in meta-training.

Each run is written to the store at once. If the command is killed, run it again to continue.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import track

from benchmarks.scorecard import families, learned, longer, peers, profile, robust, table, versus
from benchmarks.scorecard.arguments import CONTROL, parsed, parser
from benchmarks.scorecard.runs import TUNED, Methods, asked, kept, run
from benchmarks.scorecard.scores import GLOBAL, ORACLE, SAME_SEED, Scores, scores
from benchmarks.scorecard.store import Key, Row, Store

MISLED = "another run's features"
_LONGER = f"run the schedules for {longer.STEPS} steps too, on N problems of each family"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the missing runs, print the tables, and draw the figure."""
    args = _parsed(arguments)
    torch.set_num_threads(1)
    first, schedule = args.schedules[0]
    compared: Methods = {
        **{name: learned.untuned(one) for name, one in args.schedules},
        **(peers.methods() if args.peers else {}),
        CONTROL: learned.control(learned.silent()),
        MISLED: learned.misled(schedule),
    }
    changed = robust.methods(first, schedule) if args.robust else {}
    methods = {**compared, **changed}
    store = Store(args.store)
    rows = _rows(store, list(asked(range(args.problems), methods)), methods)
    found = scores(rows, list(compared))
    _print(found, first)
    if changed:
        print(f"\n{first} on changed problems, less its result on the plain ones\n")
        print("\n".join(robust.lines(rows, first, list(families.FAMILIES))))
    if args.longer:
        schedules = {**dict(args.schedules), CONTROL: learned.silent()}
        lasting = longer.methods(schedules, found.choice)
        rows = _rows(store, longer.asked(range(args.longer), lasting), lasting)
        print(f"\nruns of {longer.STEPS} steps, less the one global peak\n")
        print("\n".join(table.lines(longer.results(rows, list(schedules)))))
    profile.write(args.figure, found, [name for name, _ in args.schedules])
    print(f"\nperformance profile: {args.figure}")


def _print(found: Scores, first: str) -> None:
    shape, decade = found.choice
    print(f"one global peak: a {shape} at {10**decade:.3g} (SGD's unit)\n")
    print("\n".join(table.lines(table.results(found))))
    against = versus.versus(found, first)
    print(f"\n{first} less one global peak: {versus.verdict(against)}\n")
    print("\n".join(versus.lines(against)))


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    taken = {TUNED, GLOBAL, ORACLE, SAME_SEED, CONTROL, MISLED, *peers.PEERS}
    made = parser("scorecard", __doc__, "runs/scorecard.jsonl", taken)
    made.add_argument("--problems", type=int, default=10, help="of each family")
    made.add_argument("--peers", action="store_true", help="run Schedule-Free, Prodigy, DoG, ...")
    made.add_argument(
        "--robust", action="store_true", help="run the first schedule on changed problems"
    )
    made.add_argument("--longer", type=int, default=0, metavar="N", help=_LONGER)
    made.add_argument("--figure", type=Path, help=".svg or .png; by default beside the store")
    args = parsed(made, arguments, problems=1, longer=0)
    args.figure = args.figure or args.store.with_suffix(".svg")
    if args.figure.suffix not in (".svg", ".png"):
        made.error(f"--figure {args.figure}; a path that ends in .svg or .png is needed")
    return args


def _rows(store: Store, keys: Sequence[Key], methods: Methods) -> dict[Key, Row]:
    """Run all keys without a row in the store, and return the rows of these keys."""
    store.cut()
    done = store.rows()
    for key in track(keys, "scorecard"):
        if not kept(done.get(key), methods):
            store.add(run(key, methods))
    rows = store.rows()
    return {key: rows[key] for key in keys}


if __name__ == "__main__":
    main()
