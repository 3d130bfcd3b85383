"""The final losses of all methods on the same problems, and the choices of tuning."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.scorecard.problems import CHOOSING, TRAINING
from benchmarks.scorecard.runs import TUNED
from benchmarks.scorecard.store import Row, Rows
from benchmarks.scorecard.tuned import AVERAGED, SHAPES

GLOBAL, ORACLE, SAME_SEED = "one global peak", "oracle", "oracle, same seed"
_ALIKE = 1e-4  # nats; a result this close to the bound of a diverged run counts as diverged


@dataclass(frozen=True)
class Scores:
    """Logs of the final validation losses, nats, means over the scoring seeds.

    Args:
        families: Family of each problem.
        logs: By method: one number per problem.
        diverged: By method: whether a run of the problem diverged.
        choice: Shape and decade of the one global peak.
    """

    families: list[str]
    logs: dict[str, list[float]]
    diverged: dict[str, list[bool]]
    choice: tuple[str, float]


def scores(rows: Rows, names: Sequence[str]) -> Scores:
    """Return the scores of these methods, over the problems on which all of them have run.

    Raises:
        ValueError: There is no such problem, or no problem of the training family.
    """
    whole = [
        (family, number)
        for family, number, method in rows
        if method == TUNED and family != TRAINING
        and all((family, number, name) in rows for name in names)
    ]  # fmt: skip
    trained = [row for (family, _, _), row in rows.items() if family == TRAINING]
    if not whole or not trained:
        raise ValueError("no problem has been run with all methods; run more of them first")
    tuned = [rows[(*place, TUNED)] for place in whole]
    choice = global_choice(trained, _shared([*trained, *tuned]))
    seeds = {
        ORACLE: [_reseeded(row) for row in tuned],
        ORACLE + AVERAGED: [_reseeded(row, AVERAGED) for row in tuned],
        SAME_SEED: [_same_seed(row) for row in tuned],
        GLOBAL: [_at(row, choice) for row in tuned],
    }
    bounds = [row["worst"][len(CHOOSING) :] for row in tuned]
    for name in names:
        found = [rows[(*place, name)] for place in whole]
        seeds[name] = [row["logs"] for row in found]
        if found[0]["averaged"]:
            seeds[name + AVERAGED] = [row["averaged"] for row in found]
    return Scores(
        [family for family, _ in whole],
        {name: [statistics.fmean(logs) for logs in of] for name, of in seeds.items()},
        {name: _diverged(of, bounds) for name, of in seeds.items()},
        choice,
    )


def global_choice(rows: Sequence[Row], decades: Sequence[float]) -> tuple[str, float]:
    """Return the shape and the decade that are best over the training family's problems."""
    best, least = (SHAPES[0], 0.0), math.inf
    for shape in SHAPES:
        for decade in decades:
            mean = statistics.fmean(
                log - best
                for row in rows
                for log, best in zip(_at(row, (shape, decade)), _reseeded(row), strict=True)
            )
            if mean < least:
                best, least = (shape, decade), mean
    return best


def _shared(rows: Sequence[Row]) -> list[float]:
    """Return the decades that all grids have; grids that did not grow are included."""
    return sorted(set.intersection(*(set(row["decades"]) for row in rows)))


def _diverged(seeds: Sequence[Sequence[float]], bounds: Sequence[Sequence[float]]) -> list[bool]:
    return [
        any(log >= worst - _ALIKE for log, worst in zip(logs, worsts, strict=True))
        for logs, worsts in zip(seeds, bounds, strict=True)
    ]


def _split(row: Row, kind: str) -> tuple[Tensor, Tensor]:
    """Return logs (shapes, seeds, peaks) of the choosing and of the scoring seeds."""
    both = torch.tensor([row[shape + kind] for shape in SHAPES], dtype=torch.float64)
    return both[:, : len(CHOOSING)], both[:, len(CHOOSING) :]


def _reseeded(row: Row, kind: str = "") -> list[float]:
    """Return the logs at the shape and peak that are best in the mean over other seeds."""
    chosen, scored = _split(row, kind)
    return scored.transpose(0, 1).flatten(1)[:, chosen.mean(1).argmin()].tolist()


def _same_seed(row: Row) -> list[float]:
    """Return the logs at each scoring seed's own best shape and peak: a bound."""
    return _split(row, "")[1].amin((0, 2)).tolist()


def _at(row: Row, choice: tuple[str, float]) -> list[float]:
    shape, decade = choice
    return [logs[row["decades"].index(decade)] for logs in row[shape][len(CHOOSING) :]]
