"""The report as one self-contained HTML page: styles and figures are inside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from meta_lr.report.analysis import Analysis
from meta_lr.report.caveats import caveats
from meta_lr.report.figures import Picture
from meta_lr.report.html import document, facts_html, figures_html, items, table_html
from meta_lr.report.looks import Look
from meta_lr.report.provenance import provenance, run_list, settings_table
from meta_lr.report.sections import problem_tables
from meta_lr.report.tables import Table
from meta_lr.report.wording import headline, sentences
from meta_lr.visible import visible

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
    parts = [
        _opening(analyses, root),
        _profile(overall, look) if overall else "",
        *(_problem(a, pictures[a.problem.slug], look, root) for a in analyses),
    ]
    return document(_title(analyses), parts[0], "".join(parts[1:]), digest=digest)


def _title(analyses: Sequence[Analysis]) -> str:
    return "Learning rates on " + ", ".join(dict.fromkeys(a.problem.task for a in analyses))


def _opening(analyses: Sequence[Analysis], root: Path) -> str:
    num_runs = sum(len(group.runs) for a in analyses for group in a.problem.groups)
    labels = {method.label for a in analyses for method in a.methods}
    folder = escape(visible(root.name))
    counts = [(num_runs, "run"), (len(labels), "method"), (len(analyses), "problem")]
    text = ", ".join(f"{n} {noun}{'s' if n != 1 else ''}" for n, noun in counts)
    links = "".join(
        f'<li><a href="#{a.problem.slug}">{escape(a.problem.title)}</a>: '
        f"{escape(headline(a))}</li>\n"
        for a in analyses
    )
    nav = f"<nav><ul>{links}</ul></nav>\n" if len(analyses) > 1 else ""
    return (
        f"<header>\n<h1>{escape(_title(analyses))}</h1>\n"
        f'<p class="sub">{text}, from <code>{folder}</code>.</p>\n{nav}</header>\n'
    )


def _profile(overall: tuple[Table, Picture], look: Mapping[str, Look]) -> str:
    table, picture = overall
    tables = f"{table_html(table, look)}{figures_html([picture])}"
    return f"<section>\n<h2>Over all problems</h2>\n{tables}</section>\n"


def _problem(
    analysis: Analysis, pictures: Sequence[Picture], look: Mapping[str, Look], root: Path
) -> str:
    problem = analysis.problem
    tables = "".join(table_html(table, look) for table in problem_tables(analysis))
    warnings = caveats(analysis)
    return (
        f'<section id="{problem.slug}">\n<h2>{escape(problem.title)}</h2>\n'
        f'<div class="summary">\n<p>{escape(headline(analysis))}</p>\n'
        f"{items(sentences(analysis))}</div>\n{figures_html(pictures[:LEADING])}"
        f"{'<h3>Read with care</h3>' if warnings else ''}\n{items(warnings)}"
        f"{tables}{figures_html(pictures[LEADING:])}"
        f"<h3>How it was run</h3>\n{_how(analysis, look, root)}</section>\n"
    )


def _how(analysis: Analysis, look: Mapping[str, Look], root: Path) -> str:
    runs = [run for group in analysis.problem.groups for run in group.runs]
    different = settings_table(analysis.problem)
    listed = table_html(run_list(analysis.problem, root), look, words=True)
    return (
        f"{facts_html(provenance([run.header for run in runs]))}"
        f"{table_html(different, look, words=True) if different else ''}"
        f"<details><summary>All {len(runs)} runs</summary>\n{listed}</details>\n"
    )
