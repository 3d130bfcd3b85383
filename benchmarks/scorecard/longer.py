"""Runs five times longer than any in meta-training, against the one global peak.

The problems are those of the held-out families, each with `STEPS` optimizer steps. The peak is
chosen on meta-training's own family, at its own lengths.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

import torch

from benchmarks.scorecard import families
from benchmarks.scorecard.finals import Finals, finals
from benchmarks.scorecard.learned import steered
from benchmarks.scorecard.problems import made
from benchmarks.scorecard.runs import Method, Methods
from benchmarks.scorecard.scores import GLOBAL
from benchmarks.scorecard.store import Key, Rows
from benchmarks.scorecard.table import FAILED, Result
from benchmarks.scorecard.tuned import SHAPES, Tuned
from meta_lr.bilevel.problems import Problem
from meta_lr.methods.self_tuning.schedule import SelfTuning

STEPS = 3000
_MARK = f", {STEPS} steps"  # appended to the name of a method


def asked(numbers: Sequence[int], methods: Methods) -> list[Key]:
    """Return the keys to run, problem by problem, so that all families progress equally."""
    return [(f, number, name) for number, f, name in product(numbers, families.FAMILIES, methods)]


def methods(schedules: Mapping[str, SelfTuning], choice: tuple[str, float]) -> dict[str, Method]:
    """Return the schedules and the one global peak, on long runs.

    Args:
        schedules: The learned schedules, by name.
        choice: Shape and decade of the one global peak.
    """
    shape, decade = choice
    found = {
        name + _MARK: Method(partial(_run, schedule), schedule.fingerprint + _MARK)
        for name, schedule in schedules.items()
    }
    usual = Method(partial(_usual, shape, decade), f"{shape} {decade:g}{_MARK}")
    return {**found, GLOBAL + _MARK: usual}


def _run(schedule: SelfTuning, family: str, number: int, seed: int) -> Finals:
    return steered(_long(family, number, seed), schedule)._replace(averaged=[])


def _usual(shape: str, decade: float, family: str, number: int, seed: int) -> Finals:
    problem = _long(family, number, seed)
    kind = torch.tensor([float(SHAPES.index(shape))])
    peak = torch.tensor([10**decade * problem.unit])
    return finals(problem, Tuned(), (peak, kind))._replace(averaged=[])


def _long(family: str, number: int, seed: int) -> Problem:
    return made(family, number, seed)._replace(total_steps=STEPS)


def results(rows: Rows, names: Sequence[str]) -> list[Result]:
    """Return each schedule against the one global peak on the same long runs."""
    means = {key: statistics.fmean(row["logs"]) for key, row in rows.items()}
    return [_result(means, name) for name in names]


def _result(means: Mapping[Key, float], name: str) -> Result:
    apart: dict[str, list[float]] = {}
    for (family, number, method), log in means.items():
        if method == name + _MARK:
            usual = means[family, number, GLOBAL + _MARK]
            apart.setdefault(family, []).append(log - usual)
    every = [one for of in apart.values() for one in of]
    by_family = {family: statistics.fmean(of) for family, of in apart.items()}
    return Result(name, by_family, len(every), sum(one > FAILED for one in every))
