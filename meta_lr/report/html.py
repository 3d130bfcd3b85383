"""The parts of a self-contained HTML page: styles and figures are inside the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from meta_lr.report.figures import Picture
from meta_lr.report.looks import GRID, INK, MUTED, PALETTE, PAPER, Look
from meta_lr.report.tables import Table

RECORDS_DIGEST = "meta_lr-records"

# The figures use the page's colours, so that they follow its light or dark theme.
THEME = {
    **{colour: f"var(--s{i})" for i, colour in enumerate(PALETTE)},
    **{INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"},
}


def document(title: str, header: str, main: str, *, digest: str) -> str:
    """Return a whole page from its parts `header` and `main`; `digest` is that of the records."""
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="{RECORDS_DIGEST}" content="{digest}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n"
        f"{header}<main>\n{main}</main>\n"
        "<footer>Written by <code>meta-lr report</code> from the runs' records alone.</footer>\n"
        "</body>\n</html>\n"
    )


def digest_in(page: Path) -> str:
    """Return the digest of the records from which a page was made; "" if there is none."""
    if not page.is_file():
        return ""
    with open(page, "rb") as file:
        found = re.search(rb'"%s" content="([0-9a-f]+)"' % RECORDS_DIGEST.encode(), file.read(1000))
    return found[1].decode() if found else ""


def facts_html(facts: Mapping[str, Sequence[str]]) -> str:
    """Return a list of facts, each with its values."""
    rows = "".join(
        f"<dt>{escape(what)}</dt><dd>{escape(', '.join(values))}</dd>\n"
        for what, values in facts.items()
    )
    return f"<dl>\n{rows}</dl>\n"


def items(texts: Sequence[str]) -> str:
    """Return a list of sentences."""
    items = "".join(f"<li>{escape(text)}</li>\n" for text in texts)
    return f"<ul>\n{items}</ul>\n" if items else ""


def table_html(table: Table, look: Mapping[str, Look], *, words: bool = False) -> str:
    """Return a table; names have their colours; with `words`, the cells are text, not numbers."""
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


def figures_html(pictures: Sequence[Picture]) -> str:
    """Return the figures, two in a row if there is enough space."""
    figures = "".join(_figure(picture) for picture in pictures)
    return f'<div class="figures">\n{figures}</div>\n' if figures else ""


def _figure(picture: Picture) -> str:
    svg = _inline(picture)
    return f"<figure>\n{svg}<figcaption>{escape(picture.caption)}</figcaption>\n</figure>\n"


def _inline(picture: Picture) -> str:
    """Make a figure part of the page, with unique ids, the page's size and the theme's colours.

    The text before the svg element (an XML declaration, a document type) is removed, because HTML
    does not allow it.
    """
    svg = picture.svg[picture.svg.index("<svg") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{picture.name}-", svg)
    label = f'role="img" aria-label="{escape(picture.caption)}"'
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*" height="[^"]*"', rf"\1 {label}", svg, count=1)
    for colour, variable in THEME.items():
        svg = svg.replace(colour, variable)
    return svg
