"""Tables of episodic meta-trainings: their scores, their costs, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meta_lr.csv_text import as_csv
from meta_lr.report.comparison import mean_and_spread
from meta_lr.report.groups import told_apart
from meta_lr.report.meta_runs import MetaRun, labels_of
from meta_lr.report.rows import name_of
from meta_lr.report.tables import NONE, PLUS_MINUS, Table, amount

COLUMNS = ("seed", "best_score", "best_update", "last_score", "updates", "cost", "seconds")
NOTE = (
    "Scores are in nats from a cosine's: the mean over the held-out problems of the log of the "
    "final loss on val, less the cosine's; below 0 is better than the cosine. The best of several "
    "looks chose phi, so it flatters: judge a checkpoint on other problems. Costs are in plain "
    "training steps of all copies; diverged: episodes that were dropped."
)


@dataclass(frozen=True)
class Section:
    """Meta-trainings with comparable scores, by label."""

    title: str
    slug: str
    groups: Mapping[str, Sequence[MetaRun]]


def sections_of(runs: Sequence[MetaRun]) -> list[Section]:
    """Group the runs with comparable scores, and within a group the seeds of each setting."""
    measured: dict[str, list[MetaRun]] = {}
    for run in runs:
        measured.setdefault(run.yardstick, []).append(run)
    apart = told_apart([_measure(alike[0]) for alike in measured.values()])
    pairs = enumerate(zip(measured.values(), apart, strict=True), start=1)
    return [
        Section(_title(alike[0], text), f"meta-training-{number}", _groups(alike))
        for number, (alike, text) in pairs
    ]


def _measure(run: MetaRun) -> dict[str, str]:
    """Return the settings on which the meaning of a score depends."""
    parts = ("problems", "pool", "held_out", "peak")
    return {key: text for key, text in run.settings.items() if key.split(".")[0] in parts}


def _title(run: MetaRun, text: str) -> str:
    title = f"Meta-training on {run.family}: {run.held_out} held-out problems, "
    return f"{title}a cosine at peak {run.peak:g}" + (f" ({text})" if text else "")


def _groups(runs: Sequence[MetaRun]) -> dict[str, list[MetaRun]]:
    named = sorted(zip(labels_of(runs), runs, strict=True), key=lambda one: (one[0], one[1].seed))
    groups: dict[str, list[MetaRun]] = {}
    for label, run in named:
        groups.setdefault(label, []).append(run)
    return groups


def tables_of(section: Section, root: Path) -> list[Table]:
    """Return a table of the runs, and a table of means if a setting has several seeds."""
    columns = ("run", "seed", "best held-out", "at update", "last held-out", "updates", "cost")
    columns += ("seconds", "diverged", "status", "folder")
    rows = tuple(
        (label, *_row(run), name_of(run.folder, root))
        for label, runs in section.groups.items()
        for run in runs
    )
    tables = [Table("Meta-trainings", NOTE, columns, rows)]
    several = {label: runs for label, runs in section.groups.items() if len(runs) > 1}
    if several:
        means = tuple((label, *_means(runs)) for label, runs in several.items())
        note = f"Mean {PLUS_MINUS} standard deviation over the finished seeds."
        columns = ("run", "finished", "best held-out", "last held-out", "cost", "seconds")
        tables.append(Table("Over seeds", note, columns, means))
    return tables


def to_csv(sections: Sequence[Section], root: Path) -> str:
    """Return all runs as one CSV, in raw units and full precision."""
    columns = (*COLUMNS, "num_diverged", "finished")
    rows: list[Sequence[object]] = [("section", "run", *COLUMNS, "diverged", "finished", "folder")]
    for section in sections:
        for label, runs in section.groups.items():
            for run in runs:
                values = (getattr(run, name) for name in columns)
                rows.append((section.title, label, *values, name_of(run.folder, root)))
    return as_csv(rows)


def _row(run: MetaRun) -> tuple[str, ...]:
    scores = _score(run.best_score), amount(run.best_update), _score(run.last_score)
    updates = str(run.updates) if run.finished else f"{run.updates} of {run.total_updates}"
    spent = amount(round(run.cost, 1)), amount(run.seconds), str(run.num_diverged)
    status = "finished" if run.finished else "unfinished"
    return (str(run.seed), *scores, updates, *spent, status)


def _means(runs: Sequence[MetaRun]) -> tuple[str, ...]:
    done = [run for run in runs if run.finished]
    scores = [
        _spread([getattr(run, name) for run in done]) for name in ("best_score", "last_score")
    ]
    means = [mean_and_spread([getattr(run, name) for run in done])[0] for name in COLUMNS[-2:]]
    return f"{len(done)} of {len(runs)}", *scores, *map(amount, means)


def _score(value: float) -> str:
    return NONE if value != value else f"{value:+.4f}"


def _spread(values: Sequence[float]) -> str:
    mean, spread = mean_and_spread(values)
    return _score(mean) + ("" if spread != spread else f" {PLUS_MINUS} {spread:.4f}")
