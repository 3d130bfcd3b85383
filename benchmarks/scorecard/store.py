"""The rows of a scorecard on disk; each is written as soon as its runs are finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Key = tuple[str, int, str]  # family, number of the problem, name of the method
Row = Mapping[str, Any]
Rows = Mapping[Key, Row]


@dataclass(frozen=True)
class Store:
    """A file of rows, one per problem and method; a later row replaces an earlier one.

    Args:
        path: A file of JSON lines; it is created if missing.
    """

    path: Path

    def rows(self) -> dict[Key, dict[str, Any]]:
        """Return all rows so far, without a last line that is incomplete."""
        if not self.path.exists():
            return {}
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        found = [json.loads(line) for line in lines]
        return {(row["family"], row["number"], row["method"]): row for row in found}

    def add(self, row: Row) -> None:
        """Append a row."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def cut(self) -> None:
        """Remove a last line that is incomplete."""
        if self.path.exists():
            data = self.path.read_bytes()
            self.path.write_bytes(data[: data.rfind(b"\n") + 1])
