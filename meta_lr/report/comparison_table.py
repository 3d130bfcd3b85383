"""The table of paired differences; interval, p and verdict only if there are enough seeds."""

from __future__ import annotations

import math

from meta_lr.report.analysis import Analysis
from meta_lr.report.comparison import SHOW_EACH_RUN, Comparison
from meta_lr.report.outcomes import Metric
from meta_lr.report.tables import NONE, Table, score


def comparison_table(analysis: Analysis) -> Table:
    """Return the table of the paired differences, their confidence intervals, and the verdicts."""
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
    rows = tuple(zip(*columns.values(), strict=True))
    return Table("Paired differences", note, tuple(columns), rows)


def _each(comparison: Comparison, metric: Metric) -> str:
    """Return the difference of every seed, if there are so few that each must be shown."""
    if comparison.seeds >= SHOW_EACH_RUN:
        return NONE
    return ", ".join(score(d, metric, sign=True) for d in comparison.differences.values()) or NONE


def _interval(comparison: Comparison, metric: Metric) -> str:
    if math.isnan(comparison.low):
        return NONE
    return " to ".join(score(b, metric, sign=True) for b in (comparison.low, comparison.high))
