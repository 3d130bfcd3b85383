"""`meta-lr report FOLDER`: tables, figures and a page from records."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from meta_lr.report import Report


class _Parser(argparse.ArgumentParser):
    """Raises what argparse would print and exit with."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"report: {message} (meta-lr report --help)")


def report(arguments: list[str]) -> int:
    """Write a report as `arguments` say, and print its tables and the page's path."""
    options = _parser().parse_args(arguments)
    from meta_lr.report import write_report

    out = options.out or options.folder / "report"
    written = write_report(options.folder, out, reference=options.reference, target=options.target)
    show(written)
    return 0


def show(written: Report) -> None:
    """Print the tables and the page's path; whoever reads them may stop early, as `head` does."""
    try:
        print(written.markdown)
        print(f"report: {written.page}")
        sys.stdout.flush()
    except BrokenPipeError:
        # what is still buffered goes nowhere, or the interpreter would complain when it leaves
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="meta-lr report",
        description="Write tables (Markdown, CSV), figures and one HTML page from the records of "
        "every run, or every episodic meta-training, at or below a folder. Nothing is trained.",
    )
    parser.add_argument(
        "folder", type=Path, help="of a run, a sweep, a transfer or a meta-training"
    )
    parser.add_argument("--out", type=Path, help="where to write (default: FOLDER/report)")
    parser.add_argument("--reference", metavar="METHOD", help="compare all others with this one")
    parser.add_argument(
        "--target",
        type=float,
        metavar="VALUE",
        help="time to this accuracy (a fraction: 0.95, not 95) or loss on val",
    )
    return parser
