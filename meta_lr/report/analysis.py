"""The analysis of one problem for the report: outcomes, comparisons, targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from meta_lr.report.comparison import SHOW_EACH_RUN, Comparison, compare
from meta_lr.report.groups import Group, Problem
from meta_lr.report.methods import Method, best_first, measure
from meta_lr.report.outcomes import (
    ACCURACY,
    Limits,
    Metric,
    Outcome,
    choose_metric,
    common_limits,
    outcome,
)


@dataclass(frozen=True)
class Analysis:
    """The analysis of one problem; `methods` and the problem's groups are sorted, best first.

    `target` is the mean of `baseline`, or it is given (then `baseline` is ""); nan means no target.
    """

    problem: Problem
    metric: Metric
    limits: Limits
    methods: tuple[Method, ...]
    comparisons: tuple[Comparison, ...]
    target: float
    baseline: str

    @property
    def searched(self) -> bool:
        """Whether a run cost more than its plain steps, so that cost and steps differ."""
        runs = (run for group in self.problem.groups for run in group.runs)
        return any(run.search_cost != 0 for run in runs)

    @property
    def same_views(self) -> bool:
        """Whether a comparison of whole runs is also one at equal steps and at equal cost."""
        return not self.searched and self.limits.steps == self.problem.total_steps

    @property
    def few(self) -> bool:
        """Whether a method has so few runs that the report must show each run."""
        return any(len(method.outcomes) < SHOW_EACH_RUN for method in self.methods)


def analyse(problem: Problem, *, reference: str | None, target: float | None) -> Analysis:
    """Analyse one problem.

    With a `reference` (a label or a method's name), every method is compared with it. Without a
    reference, every learned method is compared with every other method. If there is no learned
    method, every method is compared with the baseline. The baseline is `constant` if it ran, else
    the first method that was not learned. If no target is given, it is the mean final validation
    value of the baseline's runs that did not diverge.
    """
    runs = [run for group in problem.groups for run in group.runs]
    metric, limits = choose_metric(runs), common_limits(runs)
    outcomes = {
        group.label: tuple(outcome(run, metric, limits) for run in group.runs)
        for group in problem.groups
    }
    baseline = _baseline(problem.groups)
    aim = _mean_val(outcomes[baseline.label]) if target is None else target
    measured = (measure(group, outcomes[group.label], metric, aim) for group in problem.groups)
    methods = best_first(measured, metric)
    groups = tuple(method.group for method in methods)
    return Analysis(
        problem=replace(problem, groups=groups),
        metric=metric,
        limits=limits,
        methods=methods,
        comparisons=tuple(
            compare(
                (group.label, _tests(outcomes[group.label])),
                (other.label, _tests(outcomes[other.label])),
                higher_is_better=metric.higher_is_better,
            )
            for group, other in _pairs(groups, baseline, reference)
        ),
        target=aim,
        baseline=baseline.label if target is None else "",
    )


def check_reference(problems: Sequence[Problem], reference: str | None) -> None:
    """Refuse a reference that is in no problem.

    Raises:
        ValueError: No method has this label or name.
    """
    groups = [group for problem in problems for group in problem.groups]
    if reference is not None and _find(groups, reference) is None:
        known = ", ".join(sorted({group.label for group in groups}))
        raise ValueError(f"no method is called '{reference}'; pass one of: {known}")


def _pairs(
    groups: Sequence[Group], baseline: Group, reference: str | None
) -> list[tuple[Group, Group]]:
    learned = [group for group in groups if group.learned]
    others = [group for group in groups if not group.learned]
    if reference is None and learned and others:
        return [(group, other) for group in learned for other in others]
    against = baseline if reference is None else _find(groups, reference)
    return [] if against is None else [(g, against) for g in groups if g is not against]


def check_target(problems: Sequence[Problem], target: float | None) -> None:
    """Refuse a target that no run can reach.

    Raises:
        ValueError: The target is not finite, or accuracies are compared and it is not in (0, 1].
    """
    if target is None:
        return
    if not math.isfinite(target):
        raise ValueError(f"the target {target:g} is no finite number; pass an accuracy or a loss")
    for problem in problems:
        metric = choose_metric(run for group in problem.groups for run in group.runs)
        if metric is ACCURACY and not 0 < target <= 1:
            raise ValueError(
                f"the target {target:g} is no accuracy, by which {problem.task} is compared; "
                "pass a fraction above 0 and up to 1 (95 % is 0.95)"
            )


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
