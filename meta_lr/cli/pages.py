"""A report's page on disk, and what to say where it cannot be written."""

from __future__ import annotations

from pathlib import Path

from meta_lr.cli.errors import one_line
from meta_lr.cli.shown import end_of
from meta_lr.files import READ_ONLY
from meta_lr.report.files import Draft, write_draft
from meta_lr.report.write import draft_report, is_current


def page_of(folder: Path) -> str:
    """Write the report on the run in `folder`, unless it is there; return where its page is."""
    page = folder / "report" / "report.html"
    if is_current(page, folder):
        return str(page)
    return _written(draft_report(folder), page.parent, folder)


def tables_and_page(
    folder: Path,
    out: Path | None = None,
    *,
    reference: str | None = None,
    target: float | None = None,
) -> tuple[str, str]:
    """Write the report on the runs in `folder`; return what to print, and where its page is."""
    draft = draft_report(folder, reference=reference, target=target)
    told = end_of(draft.outcome, draft.markdown)
    if out is not None:
        return told, str(write_draft(draft, out))
    return told, _written(draft, folder / "report", folder)


def _written(draft: Draft, out: Path, folder: Path) -> str:
    """Write a report into the folder of its runs, which may be on a read-only medium."""
    try:
        return str(write_draft(draft, out))
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        return f"none ({one_line(error)}); meta-lr report {folder} --out DIR writes it elsewhere"
