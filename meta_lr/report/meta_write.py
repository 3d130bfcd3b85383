"""The report on episodic meta-trainings: a page, two tables, figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meta_lr.report.files import Draft
from meta_lr.report.html import Part, document
from meta_lr.report.looks import looks
from meta_lr.report.meta_figures import meta_pictures
from meta_lr.report.meta_runs import MetaRun
from meta_lr.report.meta_tables import sections_of, tables_of, to_csv
from meta_lr.report.provenance import provenance
from meta_lr.report.tables import count, to_markdown, to_terminal


def draft_meta_report(runs: Sequence[MetaRun], root: Path, digest: str) -> Draft:
    """Return the report.

    Args:
        runs: The runs found at or below `root`.
        root: Folder names are relative to it.
        digest: Digest of the records.
    """
    sections = sections_of(runs)
    look = looks(label for section in sections for label in section.groups)
    parts = [
        Part(
            s.title,
            s.slug,
            pictures=list(meta_pictures(s.groups, s.slug, look)),
            tables=tables_of(s, root),
        )
        for s in sections
    ]
    title = "Episodic meta-training on " + ", ".join(dict.fromkeys(run.family for run in runs))
    shown = [*parts, Part(facts=provenance(run.row for run in runs))]
    counts = count(len(runs), "meta-training")
    return Draft(
        "\n".join(f"## {p.title}\n\n{to_terminal(p.tables[0])}\n" for p in parts),
        "\n".join(f"## {p.title}\n\n" + "\n".join(map(to_markdown, p.tables)) for p in parts),
        to_csv(sections, root),
        document(title, counts, shown, look, root=root, digest=digest),
        tuple(picture for part in parts for picture in part.pictures),
    )
