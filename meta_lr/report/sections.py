"""The tables of the report for one problem, and the tables of runs, views and details."""

from __future__ import annotations

import math

from meta_lr.report.analysis import Analysis
from meta_lr.report.comparison_table import comparison_table
from meta_lr.report.event_table import event_table
from meta_lr.report.methods import Method
from meta_lr.report.outcome_table import outcome_table
from meta_lr.report.outcomes import LOSS, Outcome
from meta_lr.report.tables import (
    NONE,
    PLUS_MINUS,
    Table,
    amount,
    mean_amount,
    score,
    spread_score,
    unit,
)
from meta_lr.report.target_tables import target_table


def problem_tables(analysis: Analysis) -> list[Table]:
    """Return the tables of one problem, without empty ones."""
    tables = [outcome_table(analysis)]
    if analysis.few:
        tables.append(run_table(analysis))
    if analysis.comparisons:
        tables.append(comparison_table(analysis))
    if not analysis.same_views:
        tables.append(view_table(analysis))
    tables.append(detail_table(analysis))
    events = event_table(analysis)
    if events is not None:
        tables.append(events)
    own = len(analysis.methods) == 1 and analysis.baseline  # a target set by the method itself
    if not math.isnan(analysis.target) and not own:
        tables.append(target_table(analysis))
    return tables


def run_table(analysis: Analysis) -> Table:
    """Return the table of all runs: the test value at the last weights, or the status."""
    seeds = sorted({o.seed for method in analysis.methods for o in method.outcomes})

    def cell(method: Method, seed: int) -> str:
        found = [outcome for outcome in method.outcomes if outcome.seed == seed]
        return _run_cell(found[0], analysis) if found else NONE

    rows = tuple(
        (method.label, *(cell(method, seed) for seed in seeds)) for method in analysis.methods
    )
    note = f"Test {unit(analysis.metric)} at the last weights."
    return Table("Every run", note, ("method", *(f"seed {seed}" for seed in seeds)), rows)


def view_table(analysis: Analysis) -> Table:
    """Return the comparison of methods at equal steps and, if that differs, at equal cost."""
    metric, limits = analysis.metric, analysis.limits
    views = {"steps": f"{limits.steps:,} steps"}
    if analysis.searched:
        views["cost"] = f"cost {amount(limits.cost)}"
    fields = [f"{split}_at_{view}" for view in views for split in ("val", "test")]
    rows = tuple(
        (method.label, *(spread_score(method.values_of_all(name), metric) for name in fields))
        for method in analysis.methods
    )
    columns = [f"{split}, {limit}" for limit in views.values() for split in ("val", "test")]
    note = f"{metric.name.capitalize()}{' %' if metric.name == 'accuracy' else ''} at the largest "
    note += "number of steps and the largest cost that every completed run reached; the last "
    note += "evaluation within the limit counts, and test only if the whole run fits (else -)."
    note += "" if analysis.searched else " Nothing was searched: cost equals steps."
    return Table("Equal steps and equal cost", note, ("method", *columns), rows)


def detail_table(analysis: Analysis) -> Table:
    """Return the table of further values: validation, the loss (besides an accuracy), time."""
    metric = analysis.metric
    measured = [(f"val {unit(metric)}, last", "val", metric)]
    if metric is not LOSS:
        measured.append(("test loss", "test_loss", LOSS))
    spent = {"num_steps": "steps", "seconds": "seconds"}
    if analysis.searched:
        spent["search_seconds"] = "of it search"
    rows = tuple(
        (
            method.label,
            *(spread_score(method.values(name), unit_of) for _, name, unit_of in measured),
            *(mean_amount(method.values(name)) for name in spent),
        )
        for method in analysis.methods
    )
    columns = ("method", *(column for column, _, _ in measured), *spent.values())
    note = f"Mean {PLUS_MINUS} standard deviation over seeds; steps and seconds are means."
    return Table("Validation, loss and time", note, columns, rows)


def _run_cell(outcome: Outcome, analysis: Analysis) -> str:
    if outcome.status == "finished":
        return score(outcome.test_last, analysis.metric)
    return outcome.status.replace(" at step ", " at ")
