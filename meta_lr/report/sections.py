"""The further tables of the report: runs, views, details, events, and the time to a target."""

from __future__ import annotations

import math
from statistics import median

from meta_lr.records.rows import COUNTED
from meta_lr.report.analysis import Analysis
from meta_lr.report.methods import Method
from meta_lr.report.outcome_table import comparison_table, outcome_table
from meta_lr.report.outcomes import LOSS
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
from meta_lr.report.targets import Profile, Times

_MEANINGS = {  # of the counts of this package's controllers
    "num_retreats": "the smoothed loss rose, so the learning rate was lowered",
    "num_clamped": "steps at which the update was limited to its largest size",
    "num_alarms": "the loss was far above the first one, so the learning rate was lowered",
    "num_fallbacks": "steps that the fallback steered",
}


def problem_tables(analysis: Analysis) -> list[Table]:
    """Return the tables of one problem, without empty ones."""
    own = len(analysis.methods) == 1 and analysis.baseline  # a target set by the method itself
    tables = [
        outcome_table(analysis),
        run_table(analysis) if analysis.few else None,
        comparison_table(analysis) if analysis.comparisons else None,
        None if analysis.same_views else view_table(analysis),
        detail_table(analysis),
        event_table(analysis),
        None if math.isnan(analysis.target) or own else target_table(analysis),
    ]
    return [table for table in tables if table is not None]


def run_table(analysis: Analysis) -> Table:
    """Return the table of all runs: the test value at the last weights, or the status."""
    columns = {"method": [method.label for method in analysis.methods]}
    for seed in sorted({o.seed for method in analysis.methods for o in method.outcomes}):
        columns[f"seed {seed}"] = [_run(method, seed, analysis) for method in analysis.methods]
    note = f"Test {unit(analysis.metric)} at the last weights."
    return of_columns("Every run", note, columns)


def _run(method: Method, seed: int, analysis: Analysis) -> str:
    outcome = next((outcome for outcome in method.outcomes if outcome.seed == seed), None)
    if outcome is None:
        return NONE
    if outcome.status == "finished":
        return score(outcome.test_last, analysis.metric)
    return outcome.status.replace(" at step ", " at ")


def view_table(analysis: Analysis) -> Table:
    """Return the comparison of methods at equal steps and, if that differs, at equal cost."""
    metric, limits = analysis.metric, analysis.limits
    views = {"steps": f"{limits.steps:,} steps"}
    if analysis.searched:
        views["cost"] = f"cost {amount(limits.cost)}"
    columns = {"method": [method.label for method in analysis.methods]}
    for view, limit in views.items():
        for split in ("val", "test"):
            values = [m.values_of_all(f"{split}_at_{view}") for m in analysis.methods]
            columns[f"{split}, {limit}"] = [spread_score(each, metric) for each in values]
    note = f"{metric.name.capitalize()}{' %' if metric.name == 'accuracy' else ''} at the largest "
    note += "number of steps and the largest cost that every completed run reached; the last "
    note += "evaluation within the limit counts, and test only if the whole run fits (else -)."
    note += "" if analysis.searched else " Nothing was searched: cost equals steps."
    return of_columns("Equal steps and equal cost", note, columns)


def detail_table(analysis: Analysis) -> Table:
    """Return the table of further values: validation, the loss (besides an accuracy), time."""
    methods, metric = analysis.methods, analysis.metric
    columns = {
        "method": [method.label for method in methods],
        f"val {unit(metric)}, last": [spread_score(m.values("val"), metric) for m in methods],
    }
    if metric is not LOSS:
        columns["test loss"] = [spread_score(m.values("test_loss"), LOSS) for m in methods]
    spent = {"steps": "num_steps", "seconds": "seconds"}
    if analysis.searched:
        spent["of it search"] = "search_seconds"
    for name, field in spent.items():
        columns[name] = [mean_amount(method.values(field)) for method in methods]
    note = f"Mean {PLUS_MINUS} standard deviation over seeds; steps and seconds are means."
    return of_columns("Validation, loss and time", note, columns)


def event_table(analysis: Analysis) -> Table | None:
    """Return the mean counts per run, of methods that counted events; None if there is none."""
    counts = {m.label: [run.counts for run in m.group.runs] for m in analysis.methods}
    counts = {label: runs for label, runs in counts.items() if any(runs)}
    names = list(dict.fromkeys(name for runs in counts.values() for run in runs for name in run))
    if not names:
        return None
    columns, meanings = {"method": list(counts)}, []
    for name in names:
        short = name.removeprefix(COUNTED).replace("_", " ")
        values = [[run[name] for run in runs if name in run] for runs in counts.values()]
        columns[short] = [mean_amount(each) if each else NONE for each in values]
        meanings += [f"{short}: {_MEANINGS[name]}"] if name in _MEANINGS else []
    return of_columns("Events", "; ".join(["Mean per run that ended", *meanings]) + ".", columns)


def target_table(analysis: Analysis) -> Table:
    """Return the table of the times to the target."""
    times = [method.steps_to_target for method in analysis.methods]
    reached = [sum(map(math.isfinite, each.values())) for each in times]
    columns = {
        "method": [method.label for method in analysis.methods],
        "reached": [f"{n} of {len(each)}" for n, each in zip(reached, times, strict=True)],
        "steps": [_median(each) for each in times],
    }
    if analysis.searched:
        columns["cost"] = [_median(method.cost_to_target) for method in analysis.methods]
    aim = score(analysis.target, analysis.metric)
    origin = f"the mean last value of {analysis.baseline}" if analysis.baseline else "as asked for"
    note = f"Validation {unit(analysis.metric)} {aim} ({origin}), seen at evaluations only; "
    note += "medians, a run that never reaches it being the slowest."
    return of_columns("Time to target", note, columns)


def _median(times: Times) -> str:
    """Write the median; the median of a time and "never" is "never"."""
    return amount(median(times.values())) if times else NONE


def profile_table(profile: Profile) -> Table:
    """Return the values of a performance profile (cost to target) at a few ratios."""
    columns = {"method": list(profile.shares)}
    for ratio in (1.0, 1.5, 2.0, 4.0):
        shares = [profile.share_within(label, ratio) for label in profile.shares]
        columns[f"{ratio:g} x"] = [f"{100 * share:.0f}" for share in shares]
    note = f"Per cent of {profile.num_pairs} (problem, seed) pairs whose target was reached at no "
    note += "more than this multiple of the cheapest method's cost."
    return of_columns("Performance profile", note, columns)
