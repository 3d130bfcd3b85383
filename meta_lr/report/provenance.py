"""How the runs were made: commands, seeds, folders, versions, machine, and settings that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from meta_lr.report.groups import Problem, differing
from meta_lr.report.rows import name_of
from meta_lr.report.tables import NONE, Table


class Origin(Protocol):
    """What a record's header says of where the run was made."""

    @property
    def commit(self) -> str | None:
        """Of our own code."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """Of Python, torch and meta_lr."""
        ...

    @property
    def hardware(self) -> str | None:
        """Name of the processor or the GPU."""
        ...

    @property
    def threads(self) -> int | None:
        """On the CPU."""
        ...


def provenance(origins: Sequence[Origin]) -> dict[str, list[str]]:
    """Return commit, versions, hardware and threads of the runs, each value once."""
    facts: dict[str, dict[str, None]] = {}
    for run in origins:
        versions = {f"{name} version": text for name, text in run.versions.items()}
        found = {"commit": run.commit, **versions, "hardware": run.hardware}
        for what, value in {**found, "threads": run.threads}.items():
            text = "not recorded" if value is None else str(value)
            facts.setdefault(what, {})[text] = None
    return {what: list(values) for what, values in facts.items()}


def run_list(problem: Problem, root: Path) -> Table:
    """List where the runs lie (below `root`) and which command made them."""
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
    """Show every setting in which the methods differ, as the runs recorded it."""
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
