"""The command lines of all scorecards: schedules by name, a store, and installed peers."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from benchmarks.scorecard import peers
from meta_lr import checkpoint
from meta_lr.methods.self_tuning.schedule import SelfTuning

CONTROL = "no network"  # the bounds of the schedule alone


def parser(
    module: str, description: str | None, store: str, taken: Collection[str]
) -> argparse.ArgumentParser:
    """Return a parser of `NAME=CHECKPOINT ... --store FILE`.

    Args:
        module: Name of the module, below `benchmarks`.
        description: Text for --help, shown unchanged.
        store: Default path of the store.
        taken: Names of other rows; no schedule may have one of them.
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
    """Return the arguments; a repeated name or a missing peer is an error.

    Args:
        made: The parser; it may have the option `--peers`.
        arguments: Arguments of the command line; None means those of the process.
        **least: Options that are numbers, each with its smallest allowed value.
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
