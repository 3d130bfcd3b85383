"""`meta-lr results`: list the stored results of runs, take more in, hand them out."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meta_lr.cli.flags import Parser, counted

if TYPE_CHECKING:
    from meta_lr.lrbench.result import Result

STORE = Path("runs/results.sqlite")

_FILTERS = ("task", "model", "optimizer", "policy")
_FORMS = ("target", "sort", "csv", "json")
_WITHOUT_PART = {"import": _FILTERS + _FORMS, "export": _FORMS}

_EXAMPLES = """\
examples:
  meta-lr results import runs                  take in every run that has ended, below runs/
  meta-lr results --task digits --target 0.9   steps and cost until 90 % on val, the fewest first
  meta-lr results --policy sinexp --sort cost  one family of policies, the cheapest first
  meta-lr results --csv > table.csv            all columns, at full precision
  meta-lr results export all.json              everything, for `import` elsewhere

A result is one run: its task, model, optimizer, policy, factor on the policy's rates, seed, number
of steps and setting (a hash of its data, and of what else its config says of the problem). There is
one for each of these; what comes later takes the place of what was there. Its robustness is the
mean change of the accuracy on val when the policy's rates are multiplied by 0.1, 0.5, 5 and 10."""


def results(arguments: list[str]) -> int:
    """List, import or export results as `arguments` say."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for name in _WITHOUT_PART.get(options.action, ()):
        if getattr(options, name):
            parser.error(f"--{name} has no part in {options.action}")
    if options.action == "import":
        _import(options.store, options.paths)
    elif options.action == "export":
        from meta_lr.lrbench.exchange import write

        found = _wanted(options)
        write(found, options.file)
        print(f"{options.file}: {counted(len(found), 'result')}")
    else:
        _list(options)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="meta-lr results",
        description="List the stored results of runs, by problem, the best on val first.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_store(parser, STORE)
    only = {"task": "task", "model": "model"}
    only["optimizer"] = "family of optimizers, such as sgd_momentum"
    for name, what in only.items():
        parser.add_argument(f"--{name}", metavar="NAME", help=f"only this {what}")
    parser.add_argument(
        "--policy", metavar="TEXT", help="only policies with this in their text, in either case"
    )
    parser.add_argument(
        "--target",
        type=float,
        metavar="VALUE",
        help="steps and cost to this accuracy (a fraction: 0.95, not 95) or loss on val",
    )
    parser.add_argument(
        "--sort", metavar="COLUMN", help="the best first by this column; --csv names them all"
    )
    parser.add_argument("--full", action="store_true", help="print all columns, however wide")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print CSV: all columns")
    form.add_argument("--json", action="store_true", help="print JSON: all columns")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="or instead of a list")
    taken = actions.add_parser("import", help="take in results of runs: import PATH ...")
    taken.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="a folder of runs, or a .csv or .json file from `export`",
    )
    given = actions.add_parser("export", help="write what is stored, or was asked for: export FILE")
    given.add_argument("file", type=Path, metavar="FILE", help="a name that ends in .csv or .json")
    for action in (taken, given):
        _add_store(action, argparse.SUPPRESS)
    return parser


def _add_store(parser: Parser, default: object) -> None:
    told = f"the file of results (default: {STORE})"
    parser.add_argument("--store", type=Path, metavar="FILE", default=default, help=told)


def _import(store: Path, paths: Sequence[Path]) -> None:
    from meta_lr.lrbench.store import Store

    found: list[Result] = []
    passed_over: Counter[str] = Counter()
    for path in paths:
        read, left = _read(path)
        found, passed_over = [*found, *read], passed_over + left
    new = 0
    if found:
        with Store(store) as opened:
            new = opened.put(found)
    print(f"{store}: {counted(len(found), 'result')} read, {new} new{_told(passed_over)}")


def _told(passed_over: Counter[str]) -> str:
    if not passed_over:
        return ""
    kinds = ", ".join(counted(passed_over[kind], kind) for kind in sorted(passed_over))
    return f"; passed over: {kinds} (a result is one training run that has ended)"


def _read(path: Path) -> tuple[list[Result], Counter[str]]:
    """Return the results in a file, or below a folder, and what there has none, by its kind."""
    if path.is_file() or path.suffix.lower() in (".csv", ".json"):
        from meta_lr.lrbench.exchange import read

        return read(path), Counter()
    from meta_lr.lrbench.folders import kind_of, result_of, run_folders

    found = {folder: result_of(folder) for folder in run_folders(path)}
    rest = Counter(kind_of(folder) for folder, result in found.items() if result is None)
    return [result for result in found.values() if result is not None], rest


def _list(options: argparse.Namespace) -> None:
    from meta_lr.lrbench.listing import by, listed

    rows = listed(_wanted(options), target=options.target)
    if options.sort is not None:
        rows = by(rows, options.sort)
    if options.csv:
        from meta_lr.csv_text import as_csv

        print(as_csv([list(rows[0]), *(list(row.values()) for row in rows)]), end="")
    elif options.json:
        print(json.dumps(rows, indent=1))
    else:
        from meta_lr.cli.results_table import table

        print(table(rows))


def _wanted(options: argparse.Namespace) -> list[Result]:
    """Return the stored results that were asked for.

    Raises:
        ValueError: There is none; it says what there is.
    """
    from meta_lr.lrbench.store import Store

    with Store(options.store, make=False) as opened:
        found = opened.find()
    for name in _FILTERS:
        asked, there = getattr(options, name), sorted({getattr(r, name) for r in found})
        if asked is None:
            continue
        found = [result for result in found if _fits(name, asked, getattr(result, name))]
        if not found:
            from meta_lr.cli.results_table import short

            known = ", ".join(map(short, there[:10])) + (", ..." if len(there) > 10 else "")
            raise ValueError(f"{options.store} has no result with {name} '{asked}'; it has {known}")
    if not found:
        raise ValueError(f"{options.store} is empty; meta-lr results import FOLDER fills it")
    return found


def _fits(name: str, asked: str, value: str) -> bool:
    return asked.lower() in value.lower() if name == "policy" else asked == value
