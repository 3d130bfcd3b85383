"""The report's sentences: the effect comes first, and the certainty depends on the seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from meta_lr.report.analysis import Analysis
from meta_lr.report.comparison import VERDICT_SEEDS, Comparison
from meta_lr.report.groups import CONTROL
from meta_lr.report.methods import Method, rank
from meta_lr.report.outcomes import Metric
from meta_lr.report.tables import NONE, amount, count, percent, score, spread_score


def headline(analysis: Analysis) -> str:
    """Return a summary sentence of this problem's runs, and the conclusion that they support."""
    if len(analysis.methods) == 1:
        return _alone(analysis)
    return f"{_ranking(analysis)} {_verdict(analysis)}"


def sentences(analysis: Analysis) -> list[str]:
    """Return one sentence per comparison with enough seeds, then the result of the control."""
    metric = analysis.metric
    tested = [c for c in analysis.comparisons if c.enough]
    return [*(sentence(c, metric) for c in tested), *_control(analysis)]


def sentence(comparison: Comparison, metric: Metric) -> str:
    """Return a sentence about one comparison, the size of the effect first."""
    pair = f"{comparison.method} against {comparison.reference}"
    points = "points of " if metric.name == "accuracy" else "in "
    effect = f"{score(comparison.mean, metric, sign=True)} {points}test {metric.name} for {pair}"
    verdict = f": {comparison.verdict}" if comparison.enough else ""
    return f"{effect} ({_evidence(comparison, metric)}){verdict}."


def _ranking(analysis: Analysis) -> str:
    """Return the best mean, then each learned method's mean, rank and cost."""
    if not analysis.methods[0].values("test_last"):
        return "No run has ended yet."
    ranks = {m.label: rank(m, analysis.methods, analysis.metric) for m in analysis.methods}
    ahead = [method for method in analysis.methods if ranks[method.label] == 1]
    behind = analysis.methods[len(ahead) :]
    extreme = "Highest" if analysis.metric.higher_is_better else "Lowest"
    names = " and ".join(_name(method, analysis) for method in ahead)
    parts = [f"{extreme} mean test {analysis.metric.name}: {names} {_mean(ahead[0], analysis)}"]
    parts += [_price(method, analysis) for method in ahead if method.group.learned]
    for method in (method for method in behind if method.group.learned):
        place = f"{_mean(method, analysis)}, rank {ranks[method.label]} of {len(ranks)}"
        parts += [f"{_name(method, analysis)}: {place}", _price(method, analysis)]
    if behind and not any(method.group.learned for method in behind):
        parts.append(f"next {_name(behind[0], analysis)}: {_mean(behind[0], analysis)}")
    return "; ".join(parts) + "."


def _name(method: Method, analysis: Analysis) -> str:
    alone = sum(other.group.learned for other in analysis.methods) == 1
    return "the learned schedule" if method.group.learned and alone else method.label


def _mean(method: Method, analysis: Analysis) -> str:
    mean = method.mean("test_last")
    if math.isnan(mean):
        return "no run has ended"
    seeds, diverged = count(len(method.values("test_last")), "seed"), method.count("diverged")
    bad = f", {diverged} diverged" if diverged else ""
    return f"{score(mean, analysis.metric)}{percent(analysis.metric)} ({seeds}{bad})"


def _price(method: Method, analysis: Analysis) -> str:
    whose = "its" if sum(m.group.learned for m in analysis.methods) == 1 else f"{method.label}'s"
    if math.isnan(method.meta_training_cost):
        return f"what {whose} meta-training cost is not recorded"
    return f"{whose} meta-training cost {amount(method.meta_training_cost)} plain steps on top"


def _verdict(analysis: Analysis) -> str:
    comparisons = analysis.comparisons
    if not comparisons:
        return "The reference did not run on this problem, so nothing is compared."
    most = max(comparison.seeds for comparison in comparisons)
    if most < VERDICT_SEEDS:
        return (
            f"No verdict on better or worse: it needs {VERDICT_SEEDS} paired seeds, "
            f"and no pair has {f'more than {most}' if most else 'any'}."
        )
    methods = dict.fromkeys(comparison.method for comparison in comparisons)
    return "; ".join(_verdicts(name, comparisons) for name in methods) + "."


def _verdicts(method: str, comparisons: Sequence[Comparison]) -> str:
    """Return which other methods this one is better than, worse than, and undecided against."""
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
    (method,) = analysis.methods
    value = spread_score(method.values("test_last"), analysis.metric)
    name = "test " + analysis.metric.name
    if value == NONE:
        value, name = spread_score(method.values("val"), analysis.metric), "validation value so far"
    unit = percent(analysis.metric) if value != NONE else ""
    runs = count(len(method.counted), "run")
    return f"{runs} of {method.label}: {name} {value}{unit}. Nothing to compare with."


def _control(analysis: Analysis) -> Iterator[str]:
    """Yield what the control is, and how the learned run compares with it."""
    controls = [method.label for method in analysis.methods if method.group.control]
    if not controls:
        return
    for comparison in analysis.comparisons:
        if comparison.reference in controls and comparison.seeds and not comparison.enough:
            yield sentence(comparison, analysis.metric)
    yield (
        f"{CONTROL} replays the learned run's own mean rate in each third of the run: if learned "
        "does not beat it, the schedule's fine structure is worth nothing."
    )


def _evidence(comparison: Comparison, metric: Metric) -> str:
    seeds = count(comparison.seeds, "paired seed")
    if math.isnan(comparison.low):
        return f"{seeds}, no interval"
    low, high = (score(bound, metric, sign=True) for bound in (comparison.low, comparison.high))
    test = "" if comparison.p is None else f", sign-flip test p = {comparison.p:.3g}"
    return f"95 % interval {low} to {high}, {seeds}{test}"
