"""The report on runs as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from meta_lr.report.analysis import Analysis
from meta_lr.report.caveats import caveats
from meta_lr.report.figures import Picture
from meta_lr.report.html import Part, document
from meta_lr.report.looks import Look
from meta_lr.report.provenance import provenance, run_list, settings_table
from meta_lr.report.sections import problem_tables
from meta_lr.report.tables import Table, count
from meta_lr.report.wording import headline, sentences

LEADING = 4  # figures before the tables (two rows of two); the rest follow after the tables


def page(
    analyses: Sequence[Analysis],
    pictures: Mapping[str, Sequence[Picture]],
    overall: tuple[Table, Picture] | None,
    look: Mapping[str, Look],
    *,
    root: Path,
    digest: str,
) -> str:
    """Return the page; `pictures` are by problem slug, `overall` is the profile of all problems."""
    parts = [_problem(a, pictures[a.problem.slug], root) for a in analyses]
    if overall:
        parts.insert(0, Part("Over all problems", tables=overall[:1], more=overall[1:]))
    num_runs = sum(len(group.runs) for a in analyses for group in a.problem.groups)
    labels = {method.label for a in analyses for method in a.methods}
    counts = (num_runs, "run"), (len(labels), "method"), (len(analyses), "problem")
    title = "Learning rates on " + ", ".join(dict.fromkeys(a.problem.task for a in analyses))
    text = ", ".join(count(*each) for each in counts)
    return document(title, text, parts, look, root=root, digest=digest)


def _problem(analysis: Analysis, pictures: Sequence[Picture], root: Path) -> Part:
    problem, different = analysis.problem, settings_table(analysis.problem)
    return Part(
        problem.title,
        problem.slug,
        headline(analysis),
        sentences(analysis),
        pictures[:LEADING],
        caveats(analysis),
        problem_tables(analysis),
        pictures[LEADING:],
        facts=provenance([run.row for group in problem.groups for run in group.runs]),
        settings=[different] if different else [],
        runs=run_list(problem, root),
    )
