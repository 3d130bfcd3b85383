"""Everything the report says about one problem, computed once: outcomes, comparisons, targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meta_lr.report.comparison import SHOW_EACH_RUN, Comparison, compare
from meta_lr.report.groups import Group, Problem
from meta_lr.report.outcomes import (
    Limits,
    Metric,
    Outcome,
    choose_metric,
    common_limits,
    outcome,
)
from meta_lr.report.targets import Times, time_to_target


@dataclass(frozen=True)
class Method:
    """One group and its numbers, by seed; times are inf where the target was never reached."""

    group: Group
    outcomes: tuple[Outcome, ...]
    steps_to_target: Times
    cost_to_target: Times

    @property
    def label(self) -> str:
        """The group's label."""
        return self.group.label

    def values(self, name: str) -> list[float]:
        """Return one field of the outcomes; runs without it are left out.

        So are unfinished runs, unless there is no other.
        """
        ended = [outcome for outcome in self.outcomes if outcome.status != "unfinished"]
        values = [float(getattr(outcome, name)) for outcome in ended or self.outcomes]
        return [value for value in values if not math.isnan(value)]

    def values_of_all(self, name: str) -> list[float]:
        """Return one field of the outcomes, or nothing if some run that counts lacks it."""
        values = self.values(name)
        return values if len(values) == len(self.values("num_steps")) else []

    def count(self, status: str) -> int:
        """Count the runs whose status begins with `status`."""
        return sum(outcome.status.startswith(status) for outcome in self.outcomes)


@dataclass(frozen=True)
class Analysis:
    """One problem analysed. `target` (nan: none) is `baseline`'s mean, or given (`baseline` "")."""

    problem: Problem
    metric: Metric
    limits: Limits
    methods: tuple[Method, ...]
    comparisons: tuple[Comparison, ...]
    target: float
    baseline: str

    @property
    def few(self) -> bool:
        """Whether some method has so few runs that each must be shown."""
        return any(len(method.outcomes) < SHOW_EACH_RUN for method in self.methods)


def analyse(problem: Problem, *, reference: str | None, target: float | None) -> Analysis:
    """Analyse one problem.

    With a `reference` (a label or a method's name) every method is compared with it. Without one
    every learned method is compared with every other method, or, if nothing was learned, every
    method with the baseline. The baseline is `constant` if it ran, else the first method that was
    not learned; the mean final validation value of its runs that did not diverge is the target
    unless one is given.
    """
    runs = [run for group in problem.groups for run in group.runs]
    metric, limits = choose_metric(runs), common_limits(runs)
    outcomes = {
        group.label: tuple(outcome(run, metric, limits) for run in group.runs)
        for group in problem.groups
    }
    baseline = _baseline(problem.groups).label
    aim = _mean_val(outcomes[baseline]) if target is None else target
    return Analysis(
        problem=problem,
        metric=metric,
        limits=limits,
        methods=tuple(
            _method(group, outcomes[group.label], metric, aim) for group in problem.groups
        ),
        comparisons=tuple(
            compare(
                (group.label, _tests(outcomes[group.label])),
                (other.label, _tests(outcomes[other.label])),
                higher_is_better=metric.higher_is_better,
            )
            for group, other in _pairs(problem.groups, reference)
        ),
        target=aim,
        baseline=baseline if target is None else "",
    )


def check_reference(problems: Sequence[Problem], reference: str | None) -> None:
    """Refuse a reference that no problem has.

    Raises:
        ValueError: no method has that label or name.
    """
    groups = [group for problem in problems for group in problem.groups]
    if reference is not None and _find(groups, reference) is None:
        known = ", ".join(sorted({group.label for group in groups}))
        raise ValueError(f"no method is called '{reference}'; pass one of: {known}")


def _method(group: Group, outcomes: tuple[Outcome, ...], metric: Metric, aim: float) -> Method:
    all_times = {run.header.seed: time_to_target(run, metric, aim) for run in group.runs}
    unfinished = {run.header.seed for run in group.runs if run.status == "unfinished"}
    times = {
        seed: time
        for seed, time in all_times.items()
        if seed not in unfinished or math.isfinite(time[0])  # it may yet get there
    }
    return Method(
        group,
        outcomes,
        {seed: steps for seed, (steps, _) in times.items()},
        {seed: cost for seed, (_, cost) in times.items()},
    )


def _pairs(groups: Sequence[Group], reference: str | None) -> list[tuple[Group, Group]]:
    against = _find(groups, reference) if reference is not None else None
    learned = [group for group in groups if group.learned]
    others = [group for group in groups if not group.learned]
    if reference is None and learned and others:
        return [(group, other) for group in learned for other in others]
    if reference is None:
        against = _baseline(groups)
    return [] if against is None else [(g, against) for g in groups if g is not against]


def _baseline(groups: Sequence[Group]) -> Group:
    plain = [group for group in groups if not group.learned] or list(groups)
    constant = [group for group in plain if group.runs[0].header.method == "constant"]
    return (constant or plain)[0]


def _find(groups: Sequence[Group], name: str) -> Group | None:
    by_label = [group for group in groups if group.label == name]
    by_method = [group for group in groups if group.runs[0].header.method == name]
    return next(iter(by_label + by_method), None)


def _tests(outcomes: Sequence[Outcome]) -> Mapping[int, float]:
    return {o.seed: o.test_last for o in outcomes if not math.isnan(o.test_last)}


def _mean_val(outcomes: Sequence[Outcome]) -> float:
    ended = [outcome for outcome in outcomes if not outcome.status.startswith("diverged")]
    values = [outcome.val for outcome in ended if not math.isnan(outcome.val)]
    return sum(values) / len(values) if values else math.nan
