"""Compare learned schedules on larger tasks with a cosine or line tuned on the same seed.

    python -m benchmarks.scorecard.larger self-tuning=runs/.../checkpoint [NAME=CHECKPOINT ...]
        --cifar10 cifar10.tar.xz --tiny-imagenet tiny.tar.xz --text novel.txt
        [--tasks cnn3,lstm] [--seeds 5] [--peers] [--store runs/larger.jsonl]

The oracle of a seed is the best of several cosines and of three lines to zero, all with a warm-up.
On the first seed there are at least eight cosines, and on the other seeds there are five around the
best peak of the first one. The oracle is chosen and scored on the same seed, so this bound is
optimistic, because luck helps it. The measure is the log of the final validation loss, in nats,
minus that of the oracle; below zero is better. The learned schedules are not tuned. "torch's
default" is a cosine from torch's default learning rate of the optimizer. "no network" is the bounds
of the schedule alone. "+ average" is the same training, evaluated at an average of its last
weights.

If the command is killed, run it again to continue.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.scorecard import learned
from benchmarks.scorecard.arguments import CONTROL, parsed, parser
from benchmarks.scorecard.larger_runs import (
    CHOSEN_PEERS,
    DEFAULT,
    Rows,
    all_families,
    missing,
    run,
)
from benchmarks.scorecard.larger_tasks import Files
from benchmarks.scorecard.store import Store
from benchmarks.scorecard.table import interval, markdown
from benchmarks.scorecard.tuned import AVERAGED
from meta_lr.methods.self_tuning.schedule import SelfTuning


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the missing runs, and print the table."""
    taken = {DEFAULT, CONTROL, *CHOSEN_PEERS}
    made = parser("scorecard.larger", __doc__, "runs/larger.jsonl", taken)
    for name in ("--cifar10", "--tiny-imagenet", "--text"):
        made.add_argument(name, type=Path, required=True)
    made.add_argument("--tasks", type=lambda text: text.split(","), help="only these")
    made.add_argument("--seeds", type=int, default=5)
    made.add_argument("--peers", action="store_true", help=f"run {', '.join(CHOSEN_PEERS)} too")
    args = parsed(made, arguments)
    torch.set_num_threads(1)
    files = Files(args.cifar10, args.tiny_imagenet, args.text)
    chosen = [name for name in all_families() if not args.tasks or name.split()[0] in args.tasks]
    others = CHOSEN_PEERS if args.peers else ()
    schedules, runs = {**dict(args.schedules), CONTROL: learned.silent()}, Store(args.store)
    run_all(runs, files, chosen, args.seeds, schedules, others)
    names = [column for name, _ in args.schedules for column in (name, name + AVERAGED)]
    print("\n".join(lines(runs.rows(), chosen, [*names, CONTROL, DEFAULT, *others])))


def run_all(
    runs: Store,
    files: Files,
    chosen: Sequence[str],
    seeds: int,
    schedules: Mapping[str, SelfTuning],
    others: Sequence[str] = (),
) -> None:
    """Run all missing runs, seed by seed, so that all tasks progress equally."""
    runs.cut()
    for seed in range(seeds):
        for family in chosen:
            while key := next(missing(runs.rows(), family, seed, schedules, others), None):
                row = run(files, key, schedules)
                runs.add(row)
                print(*key, f"{row['log']:.3f}", file=sys.stderr, flush=True)


def lines(rows: Rows, chosen: Sequence[str], methods: Sequence[str]) -> list[str]:
    """Return the table in Markdown: a row for each task, a column for each method."""
    head = ["task, optimizer", "seeds", "oracle", *methods]
    body = [found for family in chosen for found in _line(rows, family, methods)]
    return markdown([head, *body])


def _line(rows: Rows, family: str, methods: Sequence[str]) -> Iterator[list[str]]:
    mine = {key[1:]: row for key, row in rows.items() if key[0] == family}
    of = {key: row["log"] for key, row in mine.items()}
    of |= {(s, m + AVERAGED): row["averaged"] for (s, m), row in mine.items() if "averaged" in row}
    seeds = [seed for seed in sorted({s for s, _ in of}) if all((seed, m) in of for m in methods)]
    if seeds:
        oracle = [best(of, seed) for seed in seeds]
        apart = [[of[s, m] - o for s, o in zip(seeds, oracle, strict=True)] for m in methods]
        mean = statistics.fmean(oracle)
        yield [family, str(len(seeds)), f"{mean:.3f}", *(_shown(one) for one in apart)]


def best(of: Mapping[tuple[int, str], float], seed: int) -> float:
    """Return the best log of the tuned schedules of a seed."""
    tuned = ("cosine", "line")
    return min(log for (s, method), log in of.items() if s == seed and method.split()[0] in tuned)


def _shown(values: Sequence[float]) -> str:
    mean, half = interval(values)
    return f"{mean:+.3f}" if math.isnan(half) else f"{mean:+.3f} ±{half:.3f}"


if __name__ == "__main__":
    main()
