"""The main table: differences from the oracle, with an interval over families, and failures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import t as student

from benchmarks.scorecard.scores import GLOBAL, ORACLE, Scores

FAILED = 0.1  # nats above the one global peak; a larger difference is a failure


class Result(NamedTuple):
    """A method against another one, mostly the re-seeded oracle; negative is better."""

    name: str
    families: dict[str, float]  # mean difference of each family, nats
    problems: int
    failures: int  # problems with a run that diverged, or a mean that is FAILED above GLOBAL's

    @property
    def interval(self) -> tuple[float, float]:
        """The mean over families and half of its 95 % confidence interval, nats."""
        return interval([*self.families.values()])


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half of its 95 % confidence interval (Student's t; nan for one value).

    Values must be independent. Problems of one family are not independent. So for a mean over
    families the values are the means of the families: each family is one observation, for any
    number of problems.
    """
    if len(values) < 2:
        return statistics.fmean(values), math.nan
    error = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(student.ppf(0.975, len(values) - 1)) * error


def by_family(scores: Scores, name: str, other: str) -> dict[str, list[float]]:
    """Return the results of one method minus those of another, by family."""
    apart: dict[str, list[float]] = {}
    pairs = zip(scores.families, scores.logs[name], scores.logs[other], strict=True)
    for family, log, base in pairs:
        apart.setdefault(family, []).append(log - base)
    return apart


def results(scores: Scores) -> list[Result]:
    """Return all methods but the oracle itself, best first."""
    found = [_result(scores, name) for name in scores.logs if name != ORACLE]
    return sorted(found, key=lambda one: one.interval[0])


def _result(scores: Scores, name: str) -> Result:
    apart = by_family(scores, name, ORACLE)
    means = {family: statistics.fmean(of) for family, of in apart.items()}
    rows = zip(scores.logs[name], scores.logs[GLOBAL], scores.diverged[name], strict=True)
    failures = sum(diverged or log - usual > FAILED for log, usual, diverged in rows)
    return Result(name, means, len(scores.families), failures)


def lines(found: Sequence[Result]) -> list[str]:
    """Return the table in Markdown."""
    families = list(found[0].families)
    head = ["method", "mean [95 %]", "failures", *families]
    body = [
        [
            one.name,
            "{:+.3f} ±{:.3f}".format(*one.interval),
            f"{one.failures} of {one.problems}",
            *(f"{one.families[family]:+.3f}" for family in families),
        ]
        for one in found
    ]
    return markdown([head, *body])


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as a table; the first is the head, all columns but the first are numbers."""
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]
