"""The report on episodic meta-trainings: a page, two tables, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from meta_lr.report.figures import Picture
from meta_lr.report.files import Draft
from meta_lr.report.html import document, facts_html, figures_html, table_html
from meta_lr.report.looks import Look, looks
from meta_lr.report.meta_figures import meta_pictures
from meta_lr.report.meta_runs import MetaRun
from meta_lr.report.meta_tables import Section, sections_of, tables_of, to_csv
from meta_lr.report.provenance import provenance
from meta_lr.report.tables import to_markdown, to_terminal
from meta_lr.visible import visible


def draft_meta_report(runs: Sequence[MetaRun], root: Path, digest: str) -> Draft:
    """Return the report.

    Args:
        runs: The runs found at or below `root`.
        root: Folder names are relative to it.
        digest: Digest of the records.
    """
    sections = sections_of(runs)
    look = looks(label for section in sections for label in section.groups)
    markdown = "\n".join(
        f"## {s.title}\n\n" + "\n".join(map(to_markdown, tables_of(s, root))) for s in sections
    )
    pictures = {s.slug: list(meta_pictures(s.groups, s.slug, look)) for s in sections}
    html = _page(sections, pictures, look, runs, root, digest)
    drawn = tuple(picture for some in pictures.values() for picture in some)
    outcome = "\n".join(f"## {s.title}\n\n{to_terminal(tables_of(s, root)[0])}\n" for s in sections)
    return Draft(outcome, markdown, to_csv(sections, root), html, drawn)


def _page(
    sections: Sequence[Section],
    pictures: Mapping[str, Sequence[Picture]],
    look: Mapping[str, Look],
    runs: Sequence[MetaRun],
    root: Path,
    digest: str,
) -> str:
    title = "Episodic meta-training on " + ", ".join(dict.fromkeys(run.family for run in runs))
    told = f"{len(runs)} meta-training{'s' if len(runs) > 1 else ''}"
    header = (
        f"<header>\n<h1>{escape(title)}</h1>\n"
        f'<p class="sub">{told}, from <code>{escape(visible(root.name))}</code>.</p>\n</header>\n'
    )
    parts = [
        f'<section id="{s.slug}">\n<h2>{escape(s.title)}</h2>\n'
        + figures_html(pictures[s.slug])
        + "".join(table_html(table, look) for table in tables_of(s, root))
        + "</section>\n"
        for s in sections
    ]
    how = f"<section>\n<h3>How it was run</h3>\n{facts_html(provenance(runs))}</section>\n"
    return document(title, header, "".join([*parts, how]), digest=digest)
