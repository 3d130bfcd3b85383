"""The first table of the report: the outcome and the cost of each method, best first."""

from __future__ import annotations

import math

from meta_lr.report.analysis import Analysis
from meta_lr.report.methods import Method
from meta_lr.report.outcomes import LOSS
from meta_lr.report.tables import (
    NONE,
    PLUS_MINUS,
    Table,
    amount,
    mean_amount,
    spread_score,
    unit,
)

_COSTS = (
    "Costs are per run, 1 = one plain training step: search is the part of the cost that went into "
    "experiments, tuning came before the run and is not in it."
)
_BREAK_EVEN = (
    "Break-even: meta-training divided by the cost of a run, the number of whole runs of "
    "tuning that the schedule must spare, over all its uses, before it has paid for itself."
)


def outcome_table(analysis: Analysis) -> Table:
    """Return the table of outcomes and costs of each method, the best mean first."""
    methods, metric = analysis.methods, analysis.metric
    columns = {
        "method": [method.label for method in methods],
        "n": [str(len(method.counted)) for method in methods],
    }
    for name, field in ((f"test {unit(metric)}", "test_last"), ("at best val", "test_best")):
        columns[name] = [spread_score(method.values(field), metric) for method in methods]
    if any(method.values("test_average") for method in methods):
        columns["at average"] = [
            spread_score(method.values("test_average"), metric) for method in methods
        ]
    if any(method.group.peaks for method in methods):
        columns["peak"] = [_peak(method) for method in methods]
    for name, field in (("cost", "cost"), ("search", "search_cost"), ("tuning", "tuning_cost")):
        columns[name] = [mean_amount(method.values(field)) for method in methods]
    if any(method.group.learned for method in methods):
        columns["meta-training"] = [_meta_training(method) for method in methods]
        columns["break-even"] = [_break_even(method) for method in methods]
    if any(method.count("finished") < len(method.outcomes) for method in methods):
        columns["runs"] = [_status(method) for method in methods]
    rows = tuple(zip(*columns.values(), strict=True))
    return Table("Outcome", _note(analysis), tuple(columns), rows)


def _note(analysis: Analysis) -> str:
    worst = "" if analysis.metric is LOSS else f"{analysis.metric.name} {analysis.metric.worst:g}"
    parts = [f"Mean {PLUS_MINUS} standard deviation over n runs, the best mean first."]
    if any(method.count("diverged") for method in analysis.methods):
        parts.append(f"A diverged run counts as {worst + ' and ' if worst else ''}loss inf.")
    if any(method.group.peaks for method in analysis.methods):
        parts.append("Peak: the highest rate of a schedule, the learned one's rate at full output.")
    if any(method.values("test_average") for method in analysis.methods):
        parts.append("At average: the test value of an average of the last weights.")
    parts.append(_COSTS)
    if any(method.group.learned for method in analysis.methods):
        parts.append(_BREAK_EVEN)
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


def _peak(method: Method) -> str:
    return ", ".join(f"{peak:g}" for peak in method.group.peaks) or NONE


def _meta_training(method: Method) -> str:
    if not method.group.learned:
        return NONE
    cost = method.meta_training_cost
    return "unknown" if math.isnan(cost) else amount(cost)


def _break_even(method: Method) -> str:
    runs = method.break_even
    return NONE if math.isnan(runs) else f"{runs:.1f}"
