"""The first tables of the report: outcome and cost of each method, and their differences."""

from __future__ import annotations

import math

from meta_lr.report.analysis import Analysis
from meta_lr.report.comparison import SHOW_EACH_RUN, Comparison
from meta_lr.report.methods import Method
from meta_lr.report.outcomes import LOSS, Metric
from meta_lr.report.tables import (
    NONE,
    PLUS_MINUS,
    Table,
    amount,
    mean_amount,
    of_columns,
    score,
    spread_score,
    unit,
)


def outcome_table(analysis: Analysis) -> Table:
    """Return the table of outcomes and costs of each method, the best mean first."""
    methods, metric = analysis.methods, analysis.metric
    columns = {
        "method": [method.label for method in methods],
        "n": [str(len(method.counted)) for method in methods],
    }
    values = {f"test {unit(metric)}": "test_last", "at best val": "test_best"}
    if any(method.values("test_average") for method in methods):
        values["at average"] = "test_average"
    for name, field in values.items():
        columns[name] = [spread_score(method.values(field), metric) for method in methods]
    if any(method.group.peaks for method in methods):
        columns["peak"] = [", ".join(f"{p:g}" for p in m.group.peaks) or NONE for m in methods]
    for name, field in (("cost", "cost"), ("search", "search_cost"), ("tuning", "tuning_cost")):
        columns[name] = [mean_amount(method.values(field)) for method in methods]
    if any(method.group.learned for method in methods):
        columns["meta-training"] = [_meta_training(method) for method in methods]
        runs = [method.break_even for method in methods]
        columns["break-even"] = [NONE if math.isnan(n) else f"{n:.1f}" for n in runs]
    if any(method.count("finished") < len(method.outcomes) for method in methods):
        columns["runs"] = [_status(method) for method in methods]
    return of_columns("Outcome", _note(analysis), columns)


def _note(analysis: Analysis) -> str:
    worst = "" if analysis.metric is LOSS else f"{analysis.metric.name} {analysis.metric.worst:g}"
    parts = [f"Mean {PLUS_MINUS} standard deviation over n runs, the best mean first."]
    if any(method.count("diverged") for method in analysis.methods):
        parts.append(f"A diverged run counts as {worst + ' and ' if worst else ''}loss inf.")
    if any(method.group.peaks for method in analysis.methods):
        parts.append(
            "Peak: the highest rate of a schedule, the learned one's maximum learning rate."
        )
    if any(method.values("test_average") for method in analysis.methods):
        parts.append("At average: the test value of an average of the last weights.")
    parts.append(
        "Costs are per run, 1 = one plain training step: search is the part of the cost that went "
        "into experiments, tuning came before the run and is not in it."
    )
    if any(method.group.learned for method in analysis.methods):
        parts.append(
            "Break-even: meta-training divided by the cost of a run, the number of whole runs of "
            "tuning that the schedule must spare, over all its uses, before it has paid for itself."
        )
    if analysis.same_views and len(analysis.methods) > 1:
        parts.append(
            "Nothing was searched, so cost equals steps, and the comparisons at equal steps and at "
            "equal cost coincide: this table is both."
        )
    return " ".join(parts)


def _status(method: Method) -> str:
    words = ("diverged", "unfinished")
    other = ", ".join(f"{method.count(word)} {word}" for word in words if method.count(word))
    return other or "finished"


def _meta_training(method: Method) -> str:
    if not method.group.learned:
        return NONE
    cost = method.meta_training_cost
    return "unknown" if math.isnan(cost) else amount(cost)


def comparison_table(analysis: Analysis) -> Table:
    """Return the table of the paired differences; interval, p and verdict with enough seeds."""
    metric, shown = analysis.metric, analysis.comparisons
    columns = {
        "method - reference": [f"{c.method} - {c.reference}" for c in shown],
        "difference": [score(c.mean, metric, sign=True) for c in shown],
        "seeds": [str(c.seeds) for c in shown],
    }
    if any(c.seeds < SHOW_EACH_RUN for c in shown):
        columns["each seed"] = [_each(c, metric) for c in shown]
    if any(not math.isnan(c.low) for c in shown):
        columns["95 % interval"] = [_interval(c, metric) for c in shown]
    if any(c.enough for c in shown):
        columns["p"] = [NONE if c.p is None else f"{c.p:.3g}" for c in shown]
        columns["verdict"] = [c.verdict for c in shown]
    points = "percentage points of " if metric.name == "accuracy" else ""
    note = f"In {points}test {metric.name} at the last weights, over the seeds that both ran; "
    note += "paired t interval from 3 seeds on"
    note += "; two-sided sign-flip test from 10 on." if "p" in columns else "."
    return of_columns("Paired differences", note, columns)


def _each(comparison: Comparison, metric: Metric) -> str:
    """Return the difference of every seed, if there are so few that each must be shown."""
    if comparison.seeds >= SHOW_EACH_RUN:
        return NONE
    return ", ".join(score(d, metric, sign=True) for d in comparison.differences.values()) or NONE


def _interval(comparison: Comparison, metric: Metric) -> str:
    if math.isnan(comparison.low):
        return NONE
    return " to ".join(score(b, metric, sign=True) for b in (comparison.low, comparison.high))
