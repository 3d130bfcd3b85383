"""The runs for the tables of fine-tuning and of run lengths; each of them becomes a row."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.scorecard import run_lengths, second_tasks, steering
from benchmarks.scorecard.finals import bound
from benchmarks.scorecard.problems import CHOOSING
from benchmarks.scorecard.runs import TUNED
from benchmarks.scorecard.steering import Outcome, Steering
from benchmarks.scorecard.store import Key, Row, Rows
from benchmarks.scorecard.tuned import tuned
from meta_lr.bilevel.problems import Problem
from meta_lr.methods.self_tuning.schedule import SelfTuning

SCRATCH = "scratch"  # the family in which the first tasks of fine-tuning are tuned
ORACLE, USUAL, GLOBAL = "tuned cosine", "cosine, 0.1 x usual peak", "cosine, usual peak"


class Part(NamedTuple):
    """One of the two parts: fine-tuning or run lengths."""

    families: Sequence[str]
    problem: Callable[[str, int, int], Problem]  # (family, number, seed)
    run: Callable[[str, int, int, Steering], Outcome]
    cosines: tuple[str, ...]


FINE_TUNING, LENGTHS = "fine-tuning", "run-lengths"
PARTS = {
    FINE_TUNING: Part(
        tuple(second_tasks.CHANGES), second_tasks.second, second_tasks.run, (ORACLE, USUAL, GLOBAL)
    ),
    LENGTHS: Part(run_lengths.FAMILIES, run_lengths.problem, run_lengths.run, (ORACLE,)),
}


def asked(numbers: Sequence[int], names: Sequence[str], parts: Sequence[str]) -> Iterator[Key]:
    """Yield the keys of all rows; each comes after the rows that determine its peak."""
    for number in range(len(second_tasks.KINDS) if FINE_TUNING in parts else 0):
        yield SCRATCH, number, TUNED
    for number in numbers:
        for part in map(PARTS.__getitem__, parts):
            for family in part.families:
                yield from ((family, number, name) for name in (TUNED, *part.cosines, *names))


def missing(rows: Rows, key: Key, schedules: Mapping[str, SelfTuning], seeds: int) -> bool:
    """Return whether a row is absent, or has another schedule, peak or number of seeds."""
    row = rows.get(key)
    if row is None or key[2] == TUNED:
        return row is None
    made = steered(rows, key, schedules, unit=1.0).fingerprint
    return (row["fingerprint"], row["seeds"]) != (made, seeds)


def run(rows: Rows, key: Key, schedules: Mapping[str, SelfTuning], seeds: int) -> dict[str, Any]:
    """Return a row; `rows` has the rows that determine its peak."""
    family, number, name = key
    row = {"family": family, "number": number, "method": name}
    if name == TUNED:
        return {**row, **tuned([_made(family, number, seed) for seed in CHOOSING])}
    scoring = [len(CHOOSING) + seed for seed in range(seeds)]
    problems = [_made(family, number, seed) for seed in scoring]
    by = steered(rows, key, schedules, unit=problems[0].unit)
    found = [_part(family).run(family, number, seed, by) for seed in scoring]
    logs = {place: [one[place] for one in found] for place in found[0]}
    worst = [bound(problem) for problem in problems]
    return {**row, "fingerprint": by.fingerprint, "seeds": seeds, "logs": logs, "worst": worst}


def steered(rows: Rows, key: Key, schedules: Mapping[str, SelfTuning], *, unit: float) -> Steering:
    """Return the schedule of a run; a tuned peak is the best one on the choosing seeds."""
    family, number, name = key
    if name in schedules:
        return steering.learned(schedules[name])
    if name == ORACLE:
        return steering.cosine(best([rows[family, number, TUNED]]), unit)
    usual = best([row for (of, _, _), row in rows.items() if of == SCRATCH])
    return steering.cosine(usual - 1 if name == USUAL else usual, unit)


def best(rows: Sequence[Row]) -> float:
    """Return the decade of the cosine that is best in the mean over problems and seeds."""
    shared = sorted(set.intersection(*(set(row["decades"]) for row in rows)))
    return min(shared, key=lambda decade: _mean(rows, decade))


def _mean(rows: Sequence[Row], decade: float) -> float:
    return statistics.fmean(
        logs[row["decades"].index(decade)] for row in rows for logs in row["cosine"]
    )


def _made(family: str, number: int, seed: int) -> Problem:
    if family == SCRATCH:
        return second_tasks.first("noise", number, seed)
    return _part(family).problem(family, number, seed)


def _part(family: str) -> Part:
    return next(part for part in PARTS.values() if family in part.families)
