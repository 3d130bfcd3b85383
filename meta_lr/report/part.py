"""A part of a report, and its text for a terminal and for a file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meta_lr.report.figures import Picture
from meta_lr.report.tables import Table, to_markdown, to_terminal


@dataclass(frozen=True)
class Part:
    """One section, in the order of its fields; what is empty is left out.

    `slug` is the section's id. `settings` and `runs` are tables of words, not of numbers.
    """

    title: str = ""
    slug: str = ""
    headline: str = ""
    sentences: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    caveats: Sequence[str] = ()
    tables: Sequence[Table] = ()
    more: Sequence[Picture] = ()
    facts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    settings: Sequence[Table] = ()
    runs: Table | None = None

    def markdown(self) -> str:
        """Return the text of the part, without its figures and facts."""
        care = f"Read with care:\n\n{_items(self.caveats)}" if self.caveats else ""
        tables = "\n".join(map(to_markdown, self.tables)).rstrip()
        return self._joined(textwrap.fill(self.headline, 98), _items(self.sentences), care, tables)

    def outcome(self) -> str:
        """Return in words what came out, and the first table, for a terminal."""
        said = textwrap.fill(self.headline, 98) or _items(self.sentences)
        return self._joined(said, *map(to_terminal, self.tables[:1]))

    def _joined(self, *texts: str) -> str:
        return "\n\n".join([f"## {self.title}", *filter(None, texts)]) + "\n"


def to_text(parts: Iterable[Part]) -> str:
    """Return a whole report as Markdown, without its figures."""
    return "\n".join(part.markdown() for part in parts)


def _items(texts: Sequence[str]) -> str:
    items = [textwrap.wrap(text, 98, initial_indent="- ", subsequent_indent="  ") for text in texts]
    return "\n".join(line for item in items for line in item)
