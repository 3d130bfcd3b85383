"""The command lines of all scorecards: schedules by name, a store, and peers that are installed."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from benchmarks.scorecard import peers
from meta_lr import checkpoint
from meta_lr.methods.self_tuning.schedule import SelfTuning

CONTROL = "no network"  # the schedule's bounds alone


def parser(
    module: str, description: str | None, store: str, taken: Collection[str]
) -> argparse.ArgumentParser:
    """Return a parser of `NAME=CHECKPOINT ... --store FILE`.

    Args:
        module: That is run, below `benchmarks`.
        description: Shown by --help as it is.
        store: Where the rows are by default.
        taken: Names of other rows, which no schedule can have.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kind = partial(named, taken=taken)
    made.add_argument("schedules", nargs="+", type=kind, metavar="NAME=CHECKPOINT")
    made.add_argument("--store", type=Path, default=Path(store))
    return made


def named(text: str, taken: Collection[str] = ()) -> tuple[str, SelfTuning]:
    """Return the schedule of NAME=CHECKPOINT."""
    name, equals, place = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r}; needed is NAME=CHECKPOINT")
    if name in taken:
        raise argparse.ArgumentTypeError(f"{name!r} is the name of another row; choose another")
    try:
        found, _ = checkpoint.load(checkpoint.find(place))
    except checkpoint.CheckpointError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(found, SelfTuning):
        raise argparse.ArgumentTypeError(f"{place} does not find its own learning rate")
    return name, found


def parsed(
    made: argparse.ArgumentParser, arguments: Sequence[str] | None, **least: int
) -> argparse.Namespace:
    """Return the arguments; a name that comes twice, or a peer that is missing, is an error.

    Args:
        made: The parser; it may have the option `--peers`.
        arguments: Of the command line; None takes the process's own.
        **least: Options that are numbers, and the least that each may be.
    """
    found = made.parse_args(arguments)
    names = [name for name, _ in found.schedules]
    if len(set(names)) < len(names):
        made.error(f"a name comes twice in {', '.join(names)}; give each checkpoint its own")
    for name, count in least.items():
        if getattr(found, name) < count:
            made.error(f"--{name} {getattr(found, name)}; at least {count} is needed")
    if getattr(found, "peers", False) and (lacking := peers.missing()):
        made.error(f"--peers needs {', '.join(lacking)}; pip install '.[peers]'")
    return found
