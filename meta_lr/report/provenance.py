"""Provenance of the runs: commands, seeds, folders, versions, machine, and different settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from meta_lr.report.groups import Problem, differing
from meta_lr.report.rows import name_of
from meta_lr.report.tables import NONE, Table


def provenance(origins: Iterable[Mapping[str, object]]) -> dict[str, list[str]]:
    """Return the distinct commits, versions, hardware and threads of runs."""
    facts: dict[str, dict[str, None]] = {}
    for what, value in (item for origin in origins for item in origin.items()):
        facts.setdefault(what, {})["not recorded" if value is None else str(value)] = None
    return {what: list(values) for what, values in facts.items()}


def run_list(problem: Problem, root: Path) -> Table:
    """List the folders of the runs (relative to `root`) and the commands that made them."""
    rows = tuple(
        (
            group.label,
            f"meta-lr {run.header.command}",
            str(run.header.seed),
            run.status,
            name_of(run.folder, root),
        )
        for group in problem.groups
        for run in group.runs
    )
    note = "The first line of each run's records.jsonl holds its whole configuration."
    return Table("Runs", note, ("method", "command", "seed", "status", "folder"), rows)


def settings_table(problem: Problem) -> Table | None:
    """Return the table of all recorded settings in which the methods differ."""
    different = differing(problem.groups)
    if not different:
        return None
    rows = tuple((key, *(_short(value) for value in different[key])) for key in sorted(different))
    columns = ("setting", *(group.label for group in problem.groups))
    return Table(
        "Settings that differ", f"{NONE} where a method has no such setting.", columns, rows
    )


def _short(value: str) -> str:
    return value if len(value) <= 40 else value[:37] + "..."
