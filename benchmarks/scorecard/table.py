"""What the runs of a scorecard come to: differences from the tuned schedules, family by family."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from scipy.stats import t as student
from torch import Tensor

from benchmarks.scorecard.runs import CHOOSING, TRAINING, Key

FAILED = 0.1  # nats above the cosine at the one global peak: what counts as a failure
GLOBAL, SAME_SEED = "one global peak", "oracle, same seed"

Rows = Mapping[Key, Mapping[str, Any]]


class Result(NamedTuple):
    """A method against the re-seeded oracle; negative is better."""

    name: str
    families: dict[str, float]  # mean difference of each family, nats
    problems: int
    failures: int  # problems that end FAILED nats or more above the one global peak

    @property
    def mean(self) -> float:
        """Mean over families, nats."""
        return statistics.fmean(self.families.values())

    @property
    def spread(self) -> float:
        """Half of the 95 % interval of that mean, over families; nan for one family."""
        count = len(self.families)
        if count < 2:
            return math.nan
        error = statistics.stdev(self.families.values()) / math.sqrt(count)
        return float(student.ppf(0.975, count - 1)) * error


def results(rows: Rows, names: Sequence[str]) -> tuple[list[Result], tuple[str, float]]:
    """Return the methods, best first, and the one global choice: its shape and its decade.

    A problem counts where all methods have run.

    Raises:
        ValueError: There is none, or none of the training family.
    """
    whole = [
        (family, number)
        for family, number, method in rows
        if method == "tuned" and family != TRAINING
        and all((family, number, name) in rows for name in names)
    ]  # fmt: skip
    trained = [row for (family, _, _), row in rows.items() if family == TRAINING]
    if not whole or not trained:
        raise ValueError("no problem has been run with all methods; run more of them first")
    choice = global_choice(trained)
    logs = {name: [_log(rows[(*place, name)]) for place in whole] for name in names}
    tuned = [rows[(*place, "tuned")] for place in whole]
    logs[GLOBAL] = [_at(row, choice) for row in tuned]
    logs[SAME_SEED] = [_same_seed(row) for row in tuned]
    oracle = [_reseeded(row) for row in tuned]
    found = [_result(name, whole, of, oracle, logs[GLOBAL]) for name, of in logs.items()]
    return sorted(found, key=lambda one: one.mean), choice


def global_choice(rows: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    """Return the shape and the decade that are best over the training family's problems."""
    best, least = ("cosine", 0.0), math.inf
    for shape in ("cosine", "line"):
        for decade in _common(rows):
            mean = statistics.fmean(_at(row, (shape, decade)) - _reseeded(row) for row in rows)
            if mean < least:
                best, least = (shape, decade), mean
    return best


def lines(found: Sequence[Result]) -> list[str]:
    """Return the table in Markdown."""
    families = list(found[0].families)
    head = ["method", "mean [95 %]", "failures", *families]
    body = [
        [
            one.name,
            f"{one.mean:+.3f} ±{one.spread:.3f}",
            f"{one.failures} of {one.problems}",
            *(f"{one.families[family]:+.3f}" for family in families),
        ]
        for one in found
    ]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *body)]


def _result(
    name: str,
    places: Sequence[tuple[str, int]],
    logs: Sequence[float],
    oracle: Sequence[float],
    bar: Sequence[float],
) -> Result:
    apart: dict[str, list[float]] = {}
    for (family, _), log, best in zip(places, logs, oracle, strict=True):
        apart.setdefault(family, []).append(log - best)
    failures = sum(log - usual > FAILED for log, usual in zip(logs, bar, strict=True))
    means = {family: statistics.fmean(of) for family, of in apart.items()}
    return Result(name, means, len(places), failures)


def _common(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    shared = set.intersection(*(set(row["decades"]) for row in rows))
    return sorted(shared)


def _log(row: Mapping[str, Any]) -> float:
    return statistics.fmean(row["logs"])


def _scored(row: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return logs (shapes, peaks), means over the choosing and over the scoring seeds."""
    both = torch.tensor([row["cosine"], row["line"]])  # (shapes, seeds, peaks)
    return both[:, : len(CHOOSING)].mean(1), both[:, len(CHOOSING) :].mean(1)


def _reseeded(row: Mapping[str, Any]) -> float:
    """Return the log at the shape and peak that other seeds choose."""
    chosen, scored = _scored(row)
    return scored.flatten()[chosen.argmin()].item()


def _same_seed(row: Mapping[str, Any]) -> float:
    """Return the log at the shape and peak that are best on each scoring seed itself: a bound."""
    both = torch.tensor([row["cosine"], row["line"]])[:, len(CHOOSING) :]
    return both.amin((0, 2)).mean().item()


def _at(row: Mapping[str, Any], choice: tuple[str, float]) -> float:
    shape, decade = choice
    logs = torch.tensor(row[shape])[len(CHOOSING) :, row["decades"].index(decade)]
    return logs.mean().item()
