"""The results of all ways on held-out problems, beside the cosines: a table as text or Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from meta_lr.report.comparison import mean_and_spread, paired_interval

TUNED, ORACLE = "cosine, one tuned peak", "cosine, oracle peak"
HEAD = (
    *("", "to learn it, plain steps", "mean", "each meta-training seed", "their std"),
    *("against the tuned cosine [95 %]", "better on", "share of the gap"),
)


@dataclass(frozen=True)
class Result:
    """The results of one way.

    Args:
        name: Name of the way.
        logs: Logs of the final `val` losses, nats, (meta-training seeds, problems).
        tuned: The same for the cosine at one tuned peak, (problems,).
        oracle: The same for the cosine at its best peak on each problem, (problems,).
        cost: Cost of one meta-training, or of the tuning, in plain steps; nan if unknown.
    """

    name: str
    logs: Tensor
    tuned: Tensor
    oracle: Tensor
    cost: float = math.nan

    @property
    def seeds(self) -> list[float]:
        """Mean over the problems, for each meta-training seed."""
        return self.logs.mean(1).tolist()

    @property
    def mean(self) -> float:
        """Mean over problems and meta-training seeds."""
        return self.logs.mean().item()

    @property
    def apart(self) -> Tensor:
        """Difference from the tuned cosine on each problem (problems,); below 0 is better."""
        return self.logs.mean(0) - self.tuned

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the mean difference over problems; nan below three."""
        return paired_interval(self.apart.tolist())

    @property
    def share(self) -> float:
        """Position of the mean between tuned cosine (0) and oracle (1); nan if these are equal."""
        gap = (self.tuned - self.oracle).mean().item()
        return -self.apart.mean().item() / gap if gap > 0 else math.nan


def lines(results: Sequence[Result], *, markdown: bool) -> list[str]:
    """Return the table, row by row."""
    rows = [list(HEAD), *map(_row, results)]
    if markdown:
        rows.insert(1, ["---", *["---:"] * (len(HEAD) - 1)])
        return [f"| {' | '.join(row)} |" for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = ([f"{c:{w}}" for c, w in zip(row, widths, strict=True)] for row in rows)
    return ["   ".join(row).rstrip() for row in cells]


def _row(one: Result) -> list[str]:
    several = len(one.seeds) > 1
    return [
        one.name,
        f"{one.cost:,.0f}" if math.isfinite(one.cost) else "",
        f"{one.mean:+.3f}",
        " ".join(f"{value:+.3f}" for value in one.seeds) if several else "",
        f"{mean_and_spread(one.seeds)[1]:.3f}" if several else "",
        *(_compared(one) if one.name != TUNED else ("", "", "")),
    ]


def _compared(one: Result) -> tuple[str, str, str]:
    low, high = one.interval
    interval = "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]"
    return (
        f"{one.apart.mean().item():+.3f}{interval}",
        f"{int((one.apart < 0).sum())} of {len(one.apart)}",
        "" if math.isnan(one.share) else f"{one.share:+.2f}",
    )
