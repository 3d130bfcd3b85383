"""The report as one HTML page that needs nothing else: styles and figures stand inside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from meta_lr.report.analysis import Analysis
from meta_lr.report.caveats import caveats
from meta_lr.report.figures import Picture
from meta_lr.report.looks import GRID, INK, MUTED, PALETTE, PAPER, Look
from meta_lr.report.provenance import provenance, run_list, settings_table
from meta_lr.report.sections import problem_tables
from meta_lr.report.tables import Table
from meta_lr.report.wording import headline, sentences

LEADING = 4  # figures before the tables: two rows of two; the rest follow them

# The figures' colours become the page's, so that they follow its light or dark theme.
THEME = {
    **{colour: f"var(--s{i})" for i, colour in enumerate(PALETTE)},
    **{INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"},
}


def page(
    analyses: Sequence[Analysis],
    pictures: Mapping[str, Sequence[Picture]],
    overall: tuple[Table, Picture] | None,
    look: Mapping[str, Look],
    *,
    root: Path,
) -> str:
    """Write the page; `pictures` by problem slug, `overall` a profile over all problems, if any."""
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    parts = [
        _opening(analyses, root),
        _profile(overall, look) if overall else "",
        *(_problem(a, pictures[a.problem.slug], look, root) for a in analyses),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_title(analyses))}</title>\n<style>\n{css}</style>\n</head>\n<body>\n"
        f"{parts[0]}<main>\n{''.join(parts[1:])}</main>\n"
        "<footer>Written by <code>meta-lr report</code> from the runs' records alone.</footer>\n"
        "</body>\n</html>\n"
    )


def _title(analyses: Sequence[Analysis]) -> str:
    return "Learning rates on " + ", ".join(dict.fromkeys(a.problem.task for a in analyses))


def _opening(analyses: Sequence[Analysis], root: Path) -> str:
    num_runs = sum(len(group.runs) for a in analyses for group in a.problem.groups)
    labels = {method.label for a in analyses for method in a.methods}
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
        f'<p class="sub">{text}, from <code>{escape(root.name)}</code>.</p>\n{nav}</header>\n'
    )


def _profile(overall: tuple[Table, Picture], look: Mapping[str, Look]) -> str:
    table, picture = overall
    tables = f"{_table(table, look)}{_figures([picture])}"
    return f"<section>\n<h2>Over all problems</h2>\n{tables}</section>\n"


def _problem(
    analysis: Analysis, pictures: Sequence[Picture], look: Mapping[str, Look], root: Path
) -> str:
    problem = analysis.problem
    tables = "".join(_table(table, look) for table in problem_tables(analysis))
    warnings = caveats(analysis)
    return (
        f'<section id="{problem.slug}">\n<h2>{escape(problem.title)}</h2>\n'
        f'<div class="summary">\n<p>{escape(headline(analysis))}</p>\n'
        f"{_items(sentences(analysis))}</div>\n{_figures(pictures[:LEADING])}"
        f"{'<h3>Read with care</h3>' if warnings else ''}\n{_items(warnings)}"
        f"{tables}{_figures(pictures[LEADING:])}"
        f"<h3>How it was run</h3>\n{_how(analysis, look, root)}</section>\n"
    )


def _how(analysis: Analysis, look: Mapping[str, Look], root: Path) -> str:
    runs = [run for group in analysis.problem.groups for run in group.runs]
    facts = "".join(
        f"<dt>{escape(what)}</dt><dd>{escape(', '.join(values))}</dd>\n"
        for what, values in provenance(runs).items()
    )
    different = settings_table(analysis.problem)
    listed = _table(run_list(analysis.problem, root), look, words=True)
    return (
        f"<dl>\n{facts}</dl>\n"
        f"{_table(different, look, words=True) if different else ''}"
        f"<details><summary>All {len(runs)} runs</summary>\n{listed}</details>\n"
    )


def _items(texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>\n" for text in texts)
    return f"<ul>\n{items}</ul>\n" if items else ""


def _table(table: Table, look: Mapping[str, Look], *, words: bool = False) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    body = "".join(
        f'<tr><th scope="row">{_name(row[0], look)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>\n"
        for row in table.rows
    )
    return (
        f'<div class="table{" words" if words else ""}">\n<h3>{escape(table.caption)}</h3>\n'
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>\n"
        f'<p class="note">{escape(table.note)}</p>\n</div>\n'
    )


def _name(label: str, look: Mapping[str, Look]) -> str:
    """Put a method's colour before its name."""
    if label not in look:
        return escape(label)
    dot = f'<span class="dot" style="background: {THEME[look[label].colour]}"></span>'
    return f'<span class="name">{dot}{escape(label)}</span>'


def _figures(pictures: Sequence[Picture]) -> str:
    figures = "".join(_figure(picture) for picture in pictures)
    return f'<div class="figures">\n{figures}</div>\n' if figures else ""


def _figure(picture: Picture) -> str:
    svg = _inline(picture)
    return f"<figure>\n{svg}<figcaption>{escape(picture.caption)}</figcaption>\n</figure>\n"


def _inline(picture: Picture) -> str:
    """Make a figure part of the page: its ids unique, its size the page's, its colours the theme's.

    What precedes the svg element (an XML declaration, a document type) has no place in HTML.
    """
    svg = picture.svg[picture.svg.index("<svg") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{picture.name}-", svg)
    label = f'role="img" aria-label="{escape(picture.caption)}"'
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*" height="[^"]*"', rf"\1 {label}", svg, count=1)
    for colour, variable in THEME.items():
        svg = svg.replace(colour, variable)
    return svg
