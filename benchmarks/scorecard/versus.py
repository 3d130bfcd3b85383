"""One method against the schedule at the one global peak, family by family, problem by problem."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.scorecard.scores import GLOBAL, Scores
from benchmarks.scorecard.table import by_family, interval, markdown


class Family(NamedTuple):
    """Paired differences over a family's problems, nats; negative is better."""

    name: str
    problems: int
    mean: float
    spread: float  # half of the 95 % confidence interval; nan for one problem

    @property
    def better(self) -> bool:
        """Whether the whole interval is below zero."""
        return self.mean + self.spread < 0

    @property
    def worse(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.mean - self.spread > 0


def versus(scores: Scores, name: str) -> list[Family]:
    """Return the differences of each family."""
    apart = by_family(scores, name, GLOBAL)
    return [Family(family, len(of), *interval(of)) for family, of in apart.items()]


def verdict(families: list[Family]) -> str:
    """Return how many families are better and worse, in words."""
    better, worse = sum(one.better for one in families), sum(one.worse for one in families)
    return (
        f"better in {better} of {len(families)} families with intervals below zero, "
        f"worse in {worse} with intervals above"
    )


def lines(families: list[Family]) -> list[str]:
    """Return the table in Markdown."""
    words = {True: "better", False: "worse"}
    body = [
        [
            one.name,
            f"{one.mean:+.3f} ±{one.spread:.3f}",
            str(one.problems),
            words[one.better] if one.better or one.worse else "",
        ]
        for one in families
    ]
    return markdown([["family", "difference [95 %]", "problems", "verdict"], *body])
