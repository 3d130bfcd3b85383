"""Evaluate checkpoints on inner problems outside meta-training, beside a cosine at its best peaks.

    python -m benchmarks.held_out es=ck/es-0,ck/es-1,ck/es-2 k1=ck/k1-0,ck/k1-1,ck/k1-2 ...
        [--family digits_long] [--problems 20] [--seeds 3] [--figure out.svg] [--markdown]

A "way" is a way to compute the hypergradient: a name with the checkpoints of its meta-training
seeds. A folder without a name is a way with one seed. The measure is the log of the final `val`
loss (nats; lower is better), averaged over the seeds of each problem and then over problems.
Differences are from the cosine at one tuned peak. They are paired by problem, and the seeds of a
way are averaged first. Their 95 % confidence intervals are over problems. The tuned peak is the
best of eight on 16 problems of the training family. The oracle uses the best of the eight peaks on
each problem itself. This is a bound that no method reaches without trying all of them.

A family is one of conf/held_out.yaml, or "digits": other problems of the training family.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from benchmarks.held_out_figure import write
from benchmarks.held_out_runs import Finals, finals, schedules, tuned
from benchmarks.held_out_table import ORACLE, TUNED, Result, lines
from meta_lr import checkpoint
from meta_lr.bilevel.baseline import PEAKS
from meta_lr.bilevel.problems import Problem, Problems
from meta_lr.cli.conf_files import conf_dir
from meta_lr.methods.mlr_snet.learned import Learned

FIRST = 10_000  # number of the first held-out problem; those of meta-training are lower
TUNING = 16  # problems of the training family, on which the one peak is tuned
Ways = Mapping[str, Sequence[Learned]]


def family(name: str) -> Problems:
    """Return a family of inner problems: training's with the changes in conf/held_out.yaml."""
    held_out = yaml.safe_load((conf_dir() / "held_out.yaml").read_text(encoding="utf-8"))
    choice = "digits" if name in held_out else name
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        options = hydra.compose("meta_train_episodic", [f"problems={choice}"]).problems
    if name in held_out:
        options = OmegaConf.merge(options, {"name": name}, held_out[name])
    return instantiate(options, _convert_="all")


def way(text: str) -> tuple[str, list[str]]:
    """Return the name and the checkpoints of `name=checkpoint,...`, or of one bare checkpoint."""
    name, equals, places = text.partition("=")
    found = places.split(",") if equals else [name]
    if not name or not all(found):
        raise argparse.ArgumentTypeError(f"{text!r}; needed is NAME=CHECKPOINT,... or CHECKPOINT")
    return name, found


def loaded(place: str) -> tuple[Learned, float]:
    """Return a checkpoint of one stage, and the cost of its meta-training in plain steps."""
    learned, contract = checkpoint.load(checkpoint.find(place))
    if not isinstance(learned, Learned):
        raise ValueError(f"{place} finds its own learning rate; see benchmarks.scorecard")
    if len(learned.stages) > 1:
        raise ValueError(f"{place} has {len(learned.stages)} stages; needed is a checkpoint of one")
    return learned, float(contract["trained_on"].get("cost", math.nan))


def refuse_twice(names: Sequence[str]) -> None:
    """Raise a ValueError if two ways have the same name."""
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is named twice; write its seeds as {twice[0]}=FOLDER,FOLDER")


def results(ways: Ways, costs: Mapping[str, float], found: Finals, best: int) -> list[Result]:
    """Return the results of all ways and of the two cosines; best mean first.

    Args:
        ways: The checkpoints of each way.
        costs: Plain steps of one meta-training of each way, and of the tuning under `TUNED`.
        found: The losses, with the checkpoints in the order of `ways`.
        best: Index of the tuned peak.
    """
    bars = found.cosines[best], found.cosines.min(0).values
    parts = found.learned.split([len(seeds) for seeds in ways.values()])
    logs = {**dict(zip(ways, parts, strict=True)), TUNED: bars[0][None], ORACLE: bars[1][None]}
    every = [Result(name, of, *bars, costs.get(name, math.nan)) for name, of in logs.items()]
    return sorted(every, key=lambda one: one.mean)


def three(problems: Sequence[Problem]) -> list[int]:
    """Return the indices of the shortest, the median and the longest problem, without repeats."""
    order = sorted(range(len(problems)), key=lambda place: problems[place].total_steps)
    return [order[i] for i in sorted({0, len(order) // 2, len(order) - 1})]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Checkpoints on inner problems that no meta-training saw."
    )
    parser.add_argument("ways", nargs="+", type=way, metavar="NAME=CHECKPOINT,...")
    parser.add_argument("--family", default="digits")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="of each problem")
    parser.add_argument("--figure", type=Path, help="an SVG file to write")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    refuse_twice([name for name, _ in args.ways])
    both = {name: [loaded(place) for place in places] for name, places in args.ways}
    ways = {name: [learned for learned, _ in seeds] for name, seeds in both.items()}
    costs = {name: statistics.fmean(cost for _, cost in seeds) for name, seeds in both.items()}
    problems, numbers = family(args.family), range(FIRST, FIRST + args.problems)
    best, costs[TUNED] = tuned([family("digits")(number) for number in range(TUNING)])
    flat = [one for seeds in ways.values() for one in seeds]
    found = finals(problems, numbers, args.seeds, flat)
    table = results(ways, costs, found, best)
    print(
        f"{args.family}: {args.problems} problems x {args.seeds} seeds; mean log of the final val "
        f"loss, nats; the tuned peak is {PEAKS[best]:.3g}\n"
    )
    print("\n".join(lines(table, markdown=args.markdown)))
    if any(found.num_diverged):
        each = ", ".join(map(str, found.num_diverged))
        print(f"\ndiverged runs of each checkpoint, in the order given: {each}")
    if args.figure:
        shown = three([problems(number) for number in numbers])
        oracles = [PEAKS[int(found.cosines[:, place].argmin())] for place in shown]
        along = [
            schedules(problems(numbers[place]), ways, {TUNED: PEAKS[best], ORACLE: oracle})
            for place, oracle in zip(shown, oracles, strict=True)
        ]
        write(args.figure, along, table)


if __name__ == "__main__":
    main()
