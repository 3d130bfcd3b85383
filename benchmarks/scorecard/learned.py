"""The learned schedules of a scorecard, and the control with another run's features."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.scorecard import families
from benchmarks.scorecard.finals import Finals, finals
from benchmarks.scorecard.problems import made
from benchmarks.scorecard.runs import Method
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.problems import Problem
from meta_lr.methods.features.arithmetic import Columns
from meta_lr.methods.features.feature import Moment
from meta_lr.methods.features.features import Features
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.vectors import Tensors


def untuned(schedule: SelfTuning) -> Method:
    """Return the schedule as a method."""

    def run(family: str, number: int, seed: int) -> Finals:
        return steered(made(family, number, seed), schedule)

    return Method(run, schedule.fingerprint)


def steered(problem: Problem, schedule: SelfTuning) -> Finals:
    """Train a problem with the schedule."""
    return finals(problem, schedule, phi_of(schedule))


def silent() -> SelfTuning:
    """Return the schedule without a network: its bounds alone."""
    return SelfTuning(tuple(torch.zeros_like(weight) for weight in NETWORK.init(0)))


def control(schedule: SelfTuning) -> Method:
    """Return the schedule as a control, without a second row for an average of the weights."""
    method = untuned(schedule)

    def run(family: str, number: int, seed: int) -> Finals:
        return method.run(family, number, seed)._replace(averaged=[])

    return Method(run, method.fingerprint)


def misled(schedule: SelfTuning) -> Method:
    """Return the control in which the network reads the features of another problem's run.

    That problem is of the next family, with the same number and seed. Its features are recorded
    while the schedule trains it, and replayed at the same share of the run. The bounds around the
    network still follow the run itself. If the features matter, this control is worse.
    """

    def run(family: str, number: int, seed: int) -> Finals:
        rows = recorded(made(_next(family), number, seed), schedule)
        replayed: Any = Replayed(schedule.features, rows)
        fooled = steered(made(family, number, seed), replace(schedule, features=replayed))
        return fooled._replace(averaged=[])

    return Method(run, f"{schedule.fingerprint}, misled")


def recorded(problem: Problem, schedule: SelfTuning) -> list[Tensor]:
    """Return the features in each step of a run with this schedule."""
    heard = Recorded(schedule.features)
    features: Any = heard
    copies = Copies(problem, replace(schedule, features=features), 1)
    copies.run(copies.start(), phi_of(schedule), 0, problem.total_steps)
    return heard.rows


@dataclass(frozen=True)
class Recorded:
    """Features that record their own values."""

    inner: Features
    rows: list[Tensor] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def side_by_side(
        self, columns: Columns, now: Moment, state: Tensors, copies: int
    ) -> tuple[Tensor, Tensors]:
        x, state = self.inner.side_by_side(columns, now, state, copies)
        self.rows.append(x)
        return x, state


@dataclass(frozen=True)
class Replayed:
    """Features that come from another run, at the same fraction of the run."""

    inner: Features
    rows: list[Tensor]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def side_by_side(
        self, columns: Columns, now: Moment, state: Tensors, copies: int
    ) -> tuple[Tensor, Tensors]:
        # The features of the last step are not read.
        row = int((now.step + 0.5) / (now.total_steps - 1) * len(self.rows))
        return self.rows[min(row, len(self.rows) - 1)], state


def _next(family: str) -> str:
    names = list(families.FAMILIES)
    return names[(names.index(family) + 1) % len(names)]


def phi_of(schedule: SelfTuning) -> Tensors:
    """Return the weights of a schedule's network for one copy."""
    return tuple(weight[None] for weight in schedule.weights)
