"""The numbers of one method on one problem, and the order of methods: by mean, best first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meta_lr.report.comparison import mean_and_spread
from meta_lr.report.groups import Group
from meta_lr.report.outcomes import Metric, Outcome
from meta_lr.report.targets import Times, time_to_target


@dataclass(frozen=True)
class Method:
    """One group and its numbers, by seed; times are inf if the target was never reached."""

    group: Group
    outcomes: tuple[Outcome, ...]
    steps_to_target: Times
    cost_to_target: Times

    @property
    def label(self) -> str:
        """The group's label."""
        return self.group.label

    @property
    def counted(self) -> tuple[Outcome, ...]:
        """The runs used for the means: those that ended, or all if none has ended."""
        ended = tuple(outcome for outcome in self.outcomes if outcome.status != "unfinished")
        return ended or self.outcomes

    def values(self, name: str) -> list[float]:
        """Return one field of the counted runs; runs without it are left out."""
        values = [float(getattr(outcome, name)) for outcome in self.counted]
        return [value for value in values if not math.isnan(value)]

    def values_of_all(self, name: str) -> list[float]:
        """Return one field of the counted runs; [] if one of them does not have it."""
        values = self.values(name)
        return values if len(values) == len(self.counted) else []

    def mean(self, name: str) -> float:
        """Return the mean of one field over the counted runs; nan if none has it."""
        return mean_and_spread(self.values(name))[0]

    @property
    def meta_training_cost(self) -> float:
        """Cost of the meta-training, in plain steps; nan if not learned or not recorded."""
        return self.group.runs[0].header.meta_training_cost

    @property
    def break_even(self) -> float:
        """The number of whole runs that cost as much as the meta-training; nan if unknown."""
        mean = self.mean("cost")
        return self.meta_training_cost / mean if mean > 0 else math.nan

    def count(self, status: str) -> int:
        """Count the runs whose status begins with `status`."""
        return sum(outcome.status.startswith(status) for outcome in self.outcomes)


def measure(group: Group, outcomes: Sequence[Outcome], metric: Metric, target: float) -> Method:
    """Combine a group's outcomes and its times to `target`."""
    all_times = {run.header.seed: time_to_target(run, metric, target) for run in group.runs}
    unfinished = {run.header.seed for run in group.runs if run.status == "unfinished"}
    times = {
        seed: time
        for seed, time in all_times.items()
        if seed not in unfinished or math.isfinite(time[0])  # it may still reach the target
    }
    return Method(
        group,
        tuple(outcomes),
        {seed: steps for seed, (steps, _) in times.items()},
        {seed: cost for seed, (_, cost) in times.items()},
    )


def best_first(methods: Iterable[Method], metric: Metric) -> tuple[Method, ...]:
    """Sort by the mean test value at the last weights; methods without one follow, by val."""
    return tuple(sorted(methods, key=lambda method: _standing(method, metric)))


def rank(method: Method, methods: Iterable[Method], metric: Metric) -> int:
    """Return the rank of one method among `methods`, 1 for the best; equal means share a rank."""
    own = _standing(method, metric)
    return 1 + sum(_standing(other, metric) < own for other in methods)


def _standing(method: Method, metric: Metric) -> tuple[int, float]:
    """Return a sort key; it is smaller for a better method."""
    sign = -1 if metric.higher_is_better else 1
    for place, name in enumerate(("test_last", "val")):
        mean = method.mean(name)
        if not math.isnan(mean):
            return place, sign * mean
    return 2, 0.0
