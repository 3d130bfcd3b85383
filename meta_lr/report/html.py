"""A self-contained HTML page, filled into `page.html.j2`: styles and figures are inside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from meta_lr.extras import explained
from meta_lr.report.figures import Picture
from meta_lr.report.looks import GRID, INK, MUTED, PALETTE, PAPER, Look
from meta_lr.report.part import Part
from meta_lr.visible import visible

HERE = Path(__file__).parent
RECORDS_DIGEST = "meta_lr-records"

# The figures use the page's colours, so that they follow its light or dark theme.
THEME = {
    **{colour: f"var(--s{i})" for i, colour in enumerate(PALETTE)},
    **{INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"},
}


def document(
    title: str,
    counts: str,
    parts: Sequence[Part],
    look: Mapping[str, Look],
    *,
    root: Path,
    digest: str,
) -> str:
    """Return a whole page; it begins with links to the parts that have a headline.

    `counts` tells below the title how much there is. Parts with neither tables nor facts are left
    out. `look` has the colours of names in tables; `root` is the folder of the records, and
    `digest` that of its content.
    """
    with explained():
        from jinja2 import Environment, FileSystemLoader

    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["inline"] = _inline
    css = (HERE / "page.css").read_text(encoding="utf-8")
    facts = {"digest_name": RECORDS_DIGEST, "folder": visible(root.name), "theme": THEME}
    shown = [part for part in parts if part.tables or part.facts]
    told = {"title": title, "counts": counts, "parts": shown, "look": look, "css": css}
    return made.get_template("page.html.j2").render(**facts, **told, digest=digest)


def digest_in(page: Path) -> str:
    """Return the digest of the records from which a page was made; "" if there is none."""
    if not page.is_file():
        return ""
    with open(page, "rb") as file:
        found = re.search(rb'"%s" content="([0-9a-f]+)"' % RECORDS_DIGEST.encode(), file.read(1000))
    return found[1].decode() if found else ""


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
