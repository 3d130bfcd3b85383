"""Tables and numbers of an explanation, as text for a terminal or for a card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from meta_lr.explain.loss_schedule import Array

Rows: TypeAlias = Sequence[Sequence[str]]  # the first row is the header
Form: TypeAlias = Callable[[Rows], str]  # how a table is written: `aligned` or `markdown`

PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the run, at which tables show the learning rate
BEGIN, END = "<!-- meta-lr explain: begin -->", "<!-- meta-lr explain: end -->"


def markdown(rows: Rows) -> str:
    """Return a table in Markdown."""
    head, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *others])


def aligned(rows: Rows) -> str:
    """Return a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:{w}}" for cell, w in zip(r, widths, strict=True)) for r in rows)
    return "\n".join(line.rstrip() for line in lines)


def percent(share: float) -> str:
    """Write a part of something: two digits."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def header_of_parts(first: str) -> list[str]:
    """Return the header of a table that shows curves at `PARTS` of the run."""
    return [first, *(f"{100 * part:.0f} %" for part in PARTS)]


def at_parts(curve: Array) -> list[str]:
    """Return a curve (steps,) at `PARTS` of the run."""
    return [f"{curve[round(part * (len(curve) - 1))]:.4g}" for part in PARTS]


def with_section(card: str, text: str, place: object) -> str:
    """Return a card with this section in place of the one before, else at its end.

    Raises:
        ValueError: Only one of the two comments around the section is there; `place` names the
            card.
    """
    section = f"{BEGIN}\n\n## What it does, replayed\n\n{text}\n\n{END}"
    start, end = card.find(BEGIN), card.find(END)
    if start == end == -1:
        gap = "" if not card else "\n" if card.endswith("\n") else "\n\n"
        return f"{card}{gap}{section}\n"
    if start == -1 or end < start:
        raise ValueError(
            f"{place} has lost one of the comments '{BEGIN}' and '{END}', or their order; "
            "remove the other one and what explain wrote"
        )
    return card[:start] + section + card[end + len(END) :]
