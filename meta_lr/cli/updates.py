"""The story of an episodic meta-training: its updates, the running score, the held-out problems."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from meta_lr.records.rows import Row

RECENT = 20  # updates whose mean score is the running one


@dataclass
class Updates:
    """The rows of an episodic meta-training, turned into lines and into what a bar says."""

    total: int
    scores: list[float] = field(default_factory=list)  # the latest finite ones
    begun: bool = False

    def lines(self, row: Row) -> Iterator[tuple[str, str]]:
        """Yield the lines that a row is worth: "begin", "eval" or "end", and the text."""
        if not self.begun:
            self.begun = True
            resumed = row["kind"] != "header" and row.get("update")
            where = f"goes on at update {row['update']} of" if resumed else "begins,"
            yield "begin", f"{where} {self.total} updates"
        if row["kind"] == "update" and math.isfinite(row["score"]):
            self.scores = [*self.scores[1 - RECENT :], row["score"]]
        elif row["kind"] == "held_out":
            yield "eval", f"update {row['update']}/{self.total}  {self._standing(row)}"
        elif row["kind"] == "end":
            yield "end", f"{row['status']} after {row['updates']} updates, {row['seconds']:.1f} s"

    def progress(self, row: Row) -> tuple[int, str] | None:
        """Return the updates taken, and running score and held-out best."""
        if row["kind"] not in ("update", "held_out"):
            return None
        return row["update"], f"score {self.running()}  held-out best {row['best']:+.4f}"

    def running(self) -> str:
        """Return the mean score of the latest updates, in nats from the baseline."""
        return f"{sum(self.scores) / len(self.scores):+.4f}" if self.scores else "-"

    def _standing(self, row: Row) -> str:
        return (
            f"score {self.running()}  held-out {row['score']:+.4f} (best {row['best']:+.4f})  "
            f"cost {row['cost']:,.0f}  {row['seconds']:.1f} s"
        )
