"""Provenance of the runs: commands, seeds, folders, versions, machine, and different settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from meta_lr.report.groups import Problem, differing
from meta_lr.report.rows import name_of
from meta_lr.report.tables import NONE, Table


class Origin(Protocol):
    """The fields of a record's header about the origin of the run."""

    @property
    def commit(self) -> str | None:
        """The commit of this package's code."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of Python, torch and meta_lr."""
        ...

    @property
    def hardware(self) -> str | None:
        """Name of the processor or the GPU."""
        ...

    @property
    def threads(self) -> int | None:
        """Number of CPU threads."""
        ...


def provenance(origins: Sequence[Origin]) -> dict[str, list[str]]:
    """Return the distinct commits, versions, hardware and threads of the runs."""
    facts: dict[str, dict[str, None]] = {}
    for run in origins:
        versions = {f"{name} version": text for name, text in run.versions.items()}
        found = {"commit": run.commit, **versions, "hardware": run.hardware}
        for what, value in {**found, "threads": run.threads}.items():
            text = "not recorded" if value is None else str(value)
            facts.setdefault(what, {})[text] = None
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
