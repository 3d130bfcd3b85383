"""The report on disk: a page, two tables, figures, each written whole or not at all."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meta_lr.report.analysis import Analysis, analyse, check_reference, check_target
from meta_lr.report.caveats import caveats
from meta_lr.report.figures import problem_pictures, profile_picture
from meta_lr.report.files import write_file, write_pictures
from meta_lr.report.groups import group_runs
from meta_lr.report.looks import Look, looks
from meta_lr.report.meta_runs import find_meta_runs
from meta_lr.report.meta_write import write_meta_report
from meta_lr.report.page import page
from meta_lr.report.runs import find_runs
from meta_lr.report.sections import problem_tables
from meta_lr.report.spreadsheet import to_csv
from meta_lr.report.tables import to_markdown
from meta_lr.report.target_tables import profile_table
from meta_lr.report.targets import Profile, profile
from meta_lr.report.wording import headline, sentences


@dataclass(frozen=True)
class Report:
    """What was written: the tables as text for a terminal, and the path of the page."""

    markdown: str
    page: Path


def write_report(
    folder: Path, out: Path, *, reference: str | None = None, target: float | None = None
) -> Report:
    """Read every run at or below `folder` and write the report into `out`.

    Writes `report.html`, `table.md`, `table.csv` and `figures/*.svg` and `.png`. `reference` is the
    label or method that all others are compared with, `target` the validation value (accuracy in
    [0, 1], or a loss) whose time is taken; `analyse` says what holds without them. Neither says
    anything of episodic meta-trainings, which have a report of their own.

    Raises:
        ValueError: no runs, a damaged or newer record, runs of training beside meta-trainings, an
            unknown reference, or a target that no run could have.
    """
    meta_runs = find_meta_runs(folder)
    if meta_runs:
        if reference is not None or target is not None:
            raise ValueError(
                f"'{folder}' holds episodic meta-trainings, and --reference and --target are about "
                "runs of training; leave them out"
            )
        return Report(*write_meta_report(meta_runs, folder, out))
    problems = group_runs(find_runs(folder))
    check_reference(problems, reference)
    check_target(problems, target)
    analyses = [analyse(problem, reference=reference, target=target) for problem in problems]
    overall = profile(
        [{method.label: method.cost_to_target for method in a.methods} for a in analyses]
    )
    markdown = to_text(analyses, overall)
    write_file(out / "table.md", markdown.encode())
    write_file(out / "table.csv", to_csv(analyses).encode())
    path = out / "report.html"
    look = looks(group.label for problem in problems for group in problem.groups)
    write_file(path, _page(analyses, overall, look, root=folder, figures=out / "figures").encode())
    return Report(markdown, path)


def to_text(analyses: Sequence[Analysis], overall: Profile | None) -> str:
    """Return the whole report as Markdown, without its figures."""
    parts = [_problem_text(analysis) for analysis in analyses]
    if len(analyses) > 1:
        parts.insert(0, _overall_text(analyses, overall))
    return "\n".join(parts)


def _overall_text(analyses: Sequence[Analysis], overall: Profile | None) -> str:
    said = _items([f"{a.problem.title}: {headline(a)}" for a in analyses])
    table = f"\n{to_markdown(profile_table(overall))}" if overall else ""
    return f"## Over all problems\n\n{said}\n{table}"


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


def _page(
    analyses: Sequence[Analysis],
    overall: Profile | None,
    look: Mapping[str, Look],
    *,
    root: Path,
    figures: Path,
) -> str:
    pictures = {a.problem.slug: list(problem_pictures(a, look)) for a in analyses}
    top = (profile_table(overall), profile_picture(overall, look)) if overall else None
    drawn = [picture for some in pictures.values() for picture in some]
    write_pictures([*drawn, top[1]] if top else drawn, figures)
    return page(analyses, pictures, top, look, root=root)
