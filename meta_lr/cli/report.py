"""`meta-lr report FOLDER`: tables, figures and a page from records."""

from __future__ import annotations

import argparse
from pathlib import Path

from meta_lr.cli.flags import Parser


def report(arguments: list[str]) -> int:
    """Write a report as `arguments` say, and print its tables and the page's path."""
    options = _parser().parse_args(arguments)
    from meta_lr.cli.pages import tables_and_page

    tables, page = tables_and_page(
        options.folder, options.out, reference=options.reference, target=options.target
    )
    print(f"{tables}\nreport: {page}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
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
    parser.add_argument("--full", action="store_true", help="print all tables, not one")
    return parser
