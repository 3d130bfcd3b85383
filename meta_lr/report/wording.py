"""The report's sentences: the effect first, and no more certainty than the seeds allow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from meta_lr.report.analysis import Analysis, Method
from meta_lr.report.comparison import VERDICT_SEEDS, Comparison
from meta_lr.report.groups import Problem
from meta_lr.report.outcomes import Metric
from meta_lr.report.provenance import provenance
from meta_lr.report.sections import meta_training
from meta_lr.report.tables import NONE, score, spread_score


def headline(analysis: Analysis) -> str:
    """Return one sentence on what this problem's runs allow one to say."""
    comparisons = analysis.comparisons
    if not comparisons:
        return _alone(analysis)
    most = max(len(comparison.differences) for comparison in comparisons)
    if most < VERDICT_SEEDS:
        return (
            f"No verdict: a comparison rests on at most {_count(most, 'paired seed')}, "
            f"and a verdict needs {VERDICT_SEEDS}."
        )
    return "; ".join(_verdicts(name, comparisons) for name in _unique_methods(comparisons)) + "."


def sentences(analysis: Analysis) -> list[str]:
    """Return one sentence per comparison, then what meta-training cost."""
    compared = [sentence(comparison, analysis.metric) for comparison in analysis.comparisons]
    return compared + [_price(method) for method in analysis.methods if method.group.learned]


def sentence(comparison: Comparison, metric: Metric) -> str:
    """Put one comparison into words, the size of the effect first."""
    n = len(comparison.differences)
    pair = f"{comparison.method} against {comparison.reference}"
    if n == 0:
        return f"{pair}: no seed that both ran to the end, so no comparison."
    points = "points of " if metric.name == "accuracy" else "in "
    effect = f"{score(comparison.mean, metric, sign=True)} {points}test {metric.name} for {pair}"
    return f"{effect} ({_evidence(comparison, metric)}): {comparison.verdict}."


def caveats(analysis: Analysis) -> list[str]:
    """Return what a careful reader should know before believing the tables."""
    return [*_on_runs(analysis), *_on_views(analysis), *_on_set_up(analysis.problem)]


def _unique_methods(comparisons: Sequence[Comparison]) -> list[str]:
    return list(dict.fromkeys(comparison.method for comparison in comparisons))


def _verdicts(method: str, comparisons: Sequence[Comparison]) -> str:
    """Say of one method which others it is better than, which not, and which remain open."""
    link = {"better": "better than", "worse": "worse than"}
    others: dict[str, list[str]] = {}
    for comparison in comparisons:
        if comparison.method == method:
            others.setdefault(comparison.verdict, []).append(comparison.reference)
    said = [
        f"{link.get(verdict, verdict + ' against')} {', '.join(names)}"
        for verdict, names in sorted(others.items())
    ]
    return f"{method}: {', '.join(said)}"


def _alone(analysis: Analysis) -> str:
    if len(analysis.methods) != 1:
        return "The reference did not run on this problem, so nothing is compared."
    (method,) = analysis.methods
    value = spread_score(method.values("test_last"), analysis.metric)
    name = "test " + analysis.metric.name
    if value == NONE:
        value, name = spread_score(method.values("val"), analysis.metric), "validation value so far"
    percent = " %" if analysis.metric.name == "accuracy" and value != NONE else ""
    runs = _count(len(method.outcomes), "run")
    return f"{runs} of {method.label}: {name} {value}{percent}. Nothing to compare with."


def _evidence(comparison: Comparison, metric: Metric) -> str:
    seeds = _count(len(comparison.differences), "paired seed")
    if math.isnan(comparison.low):
        return f"{seeds}, no interval"
    low, high = (score(bound, metric, sign=True) for bound in (comparison.low, comparison.high))
    test = "" if comparison.p is None else f", sign-flip test p = {comparison.p:.3g}"
    return f"95 % interval {low} to {high}, {seeds}{test}"


def _price(method: Method) -> str:
    cost, runs = meta_training(method)
    if runs == NONE:
        return f"What the meta-training of {method.label} cost is not in its records."
    return (
        f"The meta-training of {method.label} cost {cost} plain steps, as much as {runs} of these "
        "runs: a search by hand that takes fewer is cheaper."
    )


def _on_runs(analysis: Analysis) -> Iterator[str]:
    diverged = sum(method.count("diverged") for method in analysis.methods)
    unfinished = sum(method.count("unfinished") for method in analysis.methods)
    if diverged:
        worst = score(analysis.metric.worst, analysis.metric)
        yield f"{_count(diverged, 'run')} diverged; each counts as {analysis.metric.name} {worst}."
    if unfinished:
        yield f"{_count(unfinished, 'run')} not finished: in the figures, but in no mean or test."
    left_out = sum(len(group.left_out) for group in analysis.problem.groups)
    if left_out:
        yield f"{_count(left_out, 'run')} left out: another run has the same method and seed."
    if sum(comparison.p is not None for comparison in analysis.comparisons) > 1:
        yield "The tests are not corrected for there being several of them."


def _on_views(analysis: Analysis) -> Iterator[str]:
    if any(
        cost > analysis.limits.cost * 1.001 for m in analysis.methods for cost in m.values("cost")
    ):
        yield (
            "At equal cost the dearer runs are cut short; a schedule planned for all its steps is "
            "judged there before its end."
        )
    if any(value > 0 for method in analysis.methods for value in method.values("tuning_cost")):
        yield "The cost of tuning before a run stands in its own column and in no equal-cost view."
    if any(method.group.learned for method in analysis.methods):
        yield "The cost of meta-training stands apart and in no equal-cost view."


def _on_set_up(problem: Problem) -> Iterator[str]:
    runs = [run for group in problem.groups for run in group.runs]
    for what, values in provenance(runs).items():
        if len(values) > 1:
            yield f"The runs differ in {what}: {', '.join(values)}."


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
