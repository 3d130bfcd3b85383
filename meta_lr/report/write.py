"""The report: a page, two tables and figures, made from the records and written to disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meta_lr.records.reader import digest_of
from meta_lr.report.analysis import analyse, check_reference, check_target
from meta_lr.report.files import Draft, write_draft
from meta_lr.report.groups import group_runs
from meta_lr.report.html import digest_in, document
from meta_lr.report.looks import looks
from meta_lr.report.meta_figures import meta_pictures
from meta_lr.report.meta_runs import MetaRun, find_meta_runs
from meta_lr.report.meta_tables import sections_of, tables_of
from meta_lr.report.meta_tables import to_csv as meta_csv
from meta_lr.report.page import parts_of
from meta_lr.report.part import Part, to_text
from meta_lr.report.provenance import provenance
from meta_lr.report.runs import find_runs
from meta_lr.report.spreadsheet import to_csv
from meta_lr.report.tables import count


@dataclass(frozen=True)
class Report:
    """What was written: the outcome and all tables as text, and the path of the page."""

    outcome: str
    markdown: str
    page: Path


def write_report(
    folder: Path, out: Path, *, reference: str | None = None, target: float | None = None
) -> Report:
    """Read every run at or below `folder` and write the report into `out`.

    Writes `report.html`, `table.md`, `table.csv` and `figures/*.svg` and `.png`. The arguments and
    errors are those of `draft_report`.
    """
    draft = draft_report(folder, reference=reference, target=target)
    return Report(draft.outcome, draft.markdown, write_draft(draft, out))


def is_current(page: Path, folder: Path) -> bool:
    """Return whether a page was made from the present records at or below `folder`."""
    found = digest_in(page)
    return bool(found) and found == digest_of(folder)


def draft_report(
    folder: Path, *, reference: str | None = None, target: float | None = None
) -> Draft:
    """Read every run at or below `folder` and return the report; nothing is written.

    `reference` is the label or method that all others are compared with. `target` is the validation
    value (accuracy in [0, 1], or a loss) to which the time is measured. For the defaults see
    `analyse`. Episodic meta-trainings have a different report, which does not use them.

    Raises:
        ValueError: There are no runs; a record is damaged or has a newer format; there are both
            plain runs and meta-trainings; the reference is unknown; or no run can reach the target.
    """
    digest = digest_of(folder)  # before the records are read, because a run may still continue
    meta_runs = find_meta_runs(folder)
    if meta_runs:
        if reference is not None or target is not None:
            raise ValueError(
                f"'{folder}' holds episodic meta-trainings, and --reference and --target are about "
                "runs of training; leave them out"
            )
        return _on_meta_runs(meta_runs, folder, digest)
    problems = group_runs(find_runs(folder))
    check_reference(problems, reference)
    check_target(problems, target)
    analyses = [analyse(problem, reference=reference, target=target) for problem in problems]
    groups = [group for problem in problems for group in problem.groups]
    labels = {group.label for group in groups}
    look = looks(labels)
    parts = parts_of(analyses, look, folder)
    title = "Learning rates on " + ", ".join(dict.fromkeys(p.task for p in problems))
    num_runs = count(sum(len(group.runs) for group in groups), "run")
    counts = f"{num_runs}, {count(len(labels), 'method')}, {count(len(problems), 'problem')}"
    page = document(title, counts, parts, look, root=folder, digest=digest)
    return _draft(parts[:1], parts, to_csv(analyses), page)


def _on_meta_runs(runs: Sequence[MetaRun], folder: Path, digest: str) -> Draft:
    """Return the report on episodic meta-trainings."""
    sections = sections_of(runs)
    look = looks(label for section in sections for label in section.groups)
    parts = [
        Part(
            s.title,
            s.slug,
            pictures=list(meta_pictures(s.groups, s.slug, look)),
            tables=tables_of(s, folder),
        )
        for s in sections
    ]
    title = "Episodic meta-training on " + ", ".join(dict.fromkeys(run.family for run in runs))
    shown, counts = [*parts, Part(facts=provenance(run.origin for run in runs))], len(runs)
    page = document(title, count(counts, "meta-training"), shown, look, root=folder, digest=digest)
    return _draft(parts, parts, meta_csv(sections, folder), page)


def _draft(told: Sequence[Part], parts: Sequence[Part], csv: str, page: str) -> Draft:
    pictures = tuple(picture for part in parts for picture in (*part.pictures, *part.more))
    return Draft("\n".join(part.outcome() for part in told), to_text(parts), csv, page, pictures)
