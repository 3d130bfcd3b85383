"""Learned schedules, untuned, against tuned ones and peers on families that nothing was chosen on.

    python -m benchmarks.scorecard self-tuning=runs/.../checkpoint [NAME=CHECKPOINT ...]
        [--peers] [--robust] [--longer 2] [--problems 10] [--store runs/scorecard.jsonl]

For each problem of each held-out family, cosines and lines to zero with a warm-up run at eight
peaks or more; three seeds choose the best shape and peak, three others score it (the re-seeded
oracle). Schedules and peers run on those three with no choice at all. The measure is the log of the
final validation loss, nats, less the oracle's; below zero is better. Intervals of a mean count each
family as one observation. A failure is a problem with a run that diverged, or whose mean is 0.1
nats above that of "one global peak": the shape and peak that are best over problems of
meta-training's own family, its learning rate scaled for each optimizer as those of the oracle are
(SGD 1, momentum 0.1, Adam 0.01).

"+ average" is the same training, judged at an average of its last weights; the oracle with it
chooses its peak with it too. The first schedule is compared with the one global peak family by
family. Its controls are "no network", the same bounds with all weights at zero, and "another run's
features", in which the network reads what it read on a problem of another family. A checkpoint that
reads fewer features, such as the loss alone, comes as one more NAME=CHECKPOINT.

"--robust" runs the first schedule on the same problems with the loss, the inputs or the initial
weights multiplied. "--longer" runs the schedules, and the one global peak, five times longer than
any run in meta-training.

Each run is kept in the store at once. Killed, the same command goes on.
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
    """Run what is missing, print the tables, and draw the figure."""
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
    """Run what the store does not hold, and return the rows of these keys."""
    store.cut()
    done = store.rows()
    for key in track(keys, "scorecard"):
        if not kept(done.get(key), methods):
            store.add(run(key, methods))
    rows = store.rows()
    return {key: rows[key] for key in keys}


if __name__ == "__main__":
    main()
