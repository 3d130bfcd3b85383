"""Runs five times longer than any in meta-training, against the one global peak.

The problems are those of the held-out families, each with `STEPS` optimizer steps. The peak is
chosen on meta-training's own family, at its own lengths.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import torch

from benchmarks.scorecard import families
from benchmarks.scorecard.finals import Finals, finals
from benchmarks.scorecard.learned import steered
from benchmarks.scorecard.problems import made
from benchmarks.scorecard.runs import Method, Methods
from benchmarks.scorecard.scores import GLOBAL
from benchmarks.scorecard.store import Key, Rows
from benchmarks.scorecard.table import FAILED, interval, markdown
from benchmarks.scorecard.tuned import SHAPES, Tuned
from meta_lr.methods.self_tuning.schedule import SelfTuning

STEPS = 3000
_MARK = f", {STEPS} steps"  # follows the name of a method


class Difference(NamedTuple):
    """A method less the one global peak on the same long runs, nats; negative is better."""

    name: str
    families: dict[str, list[float]]  # one difference per problem

    @property
    def means(self) -> dict[str, float]:
        """The mean of each family."""
        return {family: statistics.fmean(of) for family, of in self.families.items()}

    @property
    def failures(self) -> int:
        """How many problems end `FAILED` nats above the one global peak."""
        return sum(one > FAILED for of in self.families.values() for one in of)


def asked(numbers: Sequence[int], methods: Methods) -> list[Key]:
    """Return what is to run, problem by problem, so that all families grow alike."""
    return [(f, number, name) for number, f, name in product(numbers, families.FAMILIES, methods)]


def methods(schedules: Mapping[str, SelfTuning], choice: tuple[str, float]) -> dict[str, Method]:
    """Return the schedules and the one global peak, on long runs.

    Args:
        schedules: By name.
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
    problem = made(family, number, seed)._replace(total_steps=STEPS)
    return steered(problem, schedule)._replace(averaged=[])


def _usual(shape: str, decade: float, family: str, number: int, seed: int) -> Finals:
    problem = made(family, number, seed)._replace(total_steps=STEPS)
    kind = torch.tensor([float(SHAPES.index(shape))])
    peak = torch.tensor([10**decade * problem.unit])
    return finals(problem, Tuned(), (peak, kind))._replace(averaged=[])


def differences(rows: Rows, names: Sequence[str]) -> list[Difference]:
    """Return each schedule against the one global peak, problem by problem."""
    means = {key: statistics.fmean(row["logs"]) for key, row in rows.items()}
    found = []
    for name in names:
        apart: dict[str, list[float]] = {}
        for (family, number, method), log in means.items():
            if method == name + _MARK:
                usual = means[family, number, GLOBAL + _MARK]
                apart.setdefault(family, []).append(log - usual)
        found.append(Difference(name, apart))
    return found


def lines(found: Sequence[Difference]) -> list[str]:
    """Return the table in Markdown."""
    names = list(found[0].families)
    head = ["method", "mean [95 %]", "failures", *names]
    body = [
        [
            one.name,
            "{:+.3f} ±{:.3f}".format(*interval([*one.means.values()])),
            f"{one.failures} of {sum(map(len, one.families.values()))}",
            *(f"{one.means[family]:+.3f}" for family in names),
        ]
        for one in found
    ]
    return markdown([head, *body])
