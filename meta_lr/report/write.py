"""The report: a page, two tables and figures, made from the records and written to disk."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meta_lr.records.reader import digest_of
from meta_lr.report.analysis import Analysis, analyse, check_reference, check_target
from meta_lr.report.caveats import caveats
from meta_lr.report.figures import problem_pictures, profile_picture
from meta_lr.report.files import Draft, write_draft
from meta_lr.report.groups import group_runs
from meta_lr.report.html import digest_in
from meta_lr.report.looks import looks
from meta_lr.report.meta_runs import find_meta_runs
from meta_lr.report.meta_write import draft_meta_report
from meta_lr.report.outcome_table import outcome_table
from meta_lr.report.page import page
from meta_lr.report.runs import find_runs
from meta_lr.report.sections import problem_tables, profile_table
from meta_lr.report.spreadsheet import to_csv
from meta_lr.report.tables import to_markdown, to_terminal
from meta_lr.report.targets import Profile, profile
from meta_lr.report.wording import headline, sentences


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
        return draft_meta_report(meta_runs, folder, digest)
    problems = group_runs(find_runs(folder))
    check_reference(problems, reference)
    check_target(problems, target)
    analyses = [analyse(problem, reference=reference, target=target) for problem in problems]
    overall = profile(
        [{method.label: method.cost_to_target for method in a.methods} for a in analyses]
    )
    look = looks(group.label for problem in problems for group in problem.groups)
    pictures = {a.problem.slug: list(problem_pictures(a, look)) for a in analyses}
    top = (profile_table(overall), profile_picture(overall, look)) if overall else None
    return Draft(
        outcome_text(analyses, overall),
        to_text(analyses, overall),
        to_csv(analyses),
        page(analyses, pictures, top, look, root=folder, digest=digest),
        (*(picture for some in pictures.values() for picture in some), *(top[1:] if top else ())),
    )


def to_text(analyses: Sequence[Analysis], overall: Profile | None) -> str:
    """Return the whole report as Markdown, without its figures."""
    parts = [_problem_text(analysis) for analysis in analyses]
    if len(analyses) > 1:
        parts.insert(0, _overall_text(analyses, overall))
    return "\n".join(parts)


def outcome_text(analyses: Sequence[Analysis], overall: Profile | None) -> str:
    """Return in words what came out, and one table, for a terminal."""
    if len(analyses) == 1:
        (one,) = analyses
        table = to_terminal(outcome_table(one))
        return f"## {one.problem.title}\n\n{textwrap.fill(headline(one), 98)}\n\n{table}\n"
    table = f"\n{to_terminal(profile_table(overall))}\n" if overall else ""
    return f"## Over all problems\n\n{_headlines(analyses)}\n{table}"


def _overall_text(analyses: Sequence[Analysis], overall: Profile | None) -> str:
    table = f"\n{to_markdown(profile_table(overall))}" if overall else ""
    return f"## Over all problems\n\n{_headlines(analyses)}\n{table}"


def _headlines(analyses: Sequence[Analysis]) -> str:
    return _items([f"{a.problem.title}: {headline(a)}" for a in analyses])


def _problem_text(analysis: Analysis) -> str:
    said = _items(sentences(analysis))
    tables = "\n".join(to_markdown(table) for table in problem_tables(analysis))
    warnings = _items(caveats(analysis))
    first = textwrap.fill(headline(analysis), 98)
    care = f"Read with care:\n\n{warnings}" if warnings else ""
    parts = [f"## {analysis.problem.title}", first, said, care, tables.rstrip()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _items(texts: Sequence[str]) -> str:
    items = [textwrap.wrap(text, 98, initial_indent="- ", subsequent_indent="  ") for text in texts]
    return "\n".join(line for item in items for line in item)
