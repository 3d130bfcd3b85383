"""Which tables the report has for a problem, and what stands in them."""

from __future__ import annotations

import math

from meta_lr.report.analysis import Analysis, Method
from meta_lr.report.comparison import Comparison
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
from meta_lr.report.targets import Profile, Times


def problem_tables(analysis: Analysis) -> list[Table]:
    """Return the tables of one problem, those with nothing to say left out."""
    tables = [outcome_table(analysis), view_table(analysis)]
    if analysis.few:
        tables.append(run_table(analysis))
    if analysis.comparisons:
        tables.append(comparison_table(analysis))
    tables.append(cost_table(analysis))
    own = len(analysis.methods) == 1 and analysis.baseline  # a target set by the method itself
    if not math.isnan(analysis.target) and not own:
        tables.append(target_table(analysis))
    return tables


def outcome_table(analysis: Analysis) -> Table:
    """Say how the runs of each method ended; the loss stands beside an accuracy."""
    metric, head = analysis.metric, unit(analysis.metric)
    measured = [
        (f"test {head}, last", "test_last", metric),
        ("at best val", "test_best", metric),
        ("val, last", "val", metric),
    ]
    if metric is not LOSS:
        measured.append(("test loss", "test_loss", LOSS))
    rows = tuple(
        (
            method.label,
            str(len(method.outcomes)),
            *(spread_score(method.values(name), unit_of) for _, name, unit_of in measured),
            _status(method),
        )
        for method in analysis.methods
    )
    columns = ("method", "n", *(column for column, _, _ in measured), "runs")
    note = f"Mean {PLUS_MINUS} standard deviation over seeds; a diverged run counts as "
    note += "loss inf." if metric is LOSS else f"{metric.name} {metric.worst:g} and loss inf."
    return Table("Outcome", note, columns, rows)


def view_table(analysis: Analysis) -> Table:
    """Set the methods side by side twice: at equal steps and at equal cost."""
    metric, limits = analysis.metric, analysis.limits
    fields = ("val_at_steps", "test_at_steps", "val_at_cost", "test_at_cost")
    rows = tuple(
        (method.label, *(spread_score(method.values_of_all(name), metric) for name in fields))
        for method in analysis.methods
    )
    at_steps, at_cost = f"{limits.steps:,} steps", f"cost {amount(limits.cost)}"
    columns = ("method", f"val, {at_steps}", f"test, {at_steps}", f"val, {at_cost}")
    note = f"{metric.name.capitalize()}{' %' if metric.name == 'accuracy' else ''} at the largest "
    note += "number of steps and the largest cost that every completed run reached; the last "
    note += "evaluation within the limit counts, and test only if the whole run fits (else -)."
    return Table("Equal steps and equal cost", note, (*columns, f"test, {at_cost}"), rows)


def run_table(analysis: Analysis) -> Table:
    """Show every run: its test value at the last weights, or how it stands."""
    seeds = sorted({o.seed for method in analysis.methods for o in method.outcomes})

    def cell(method: Method, seed: int) -> str:
        found = [outcome for outcome in method.outcomes if outcome.seed == seed]
        return _run_cell(found[0], analysis) if found else NONE

    rows = tuple(
        (method.label, *(cell(method, seed) for seed in seeds)) for method in analysis.methods
    )
    note = f"Test {unit(analysis.metric)} at the last weights."
    return Table("Every run", note, ("method", *(f"seed {seed}" for seed in seeds)), rows)


def comparison_table(analysis: Analysis) -> Table:
    """Give the paired differences, their intervals, and what they allow one to say."""
    metric = analysis.metric

    def row(comparison: Comparison) -> tuple[str, ...]:
        low, high = (score(b, metric, sign=True) for b in (comparison.low, comparison.high))
        return (
            f"{comparison.method} - {comparison.reference}",
            score(comparison.mean, metric, sign=True),
            NONE if low == NONE else f"{low} to {high}",
            str(len(comparison.differences)),
            NONE if comparison.p is None else f"{comparison.p:.3g}",
            comparison.verdict,
        )

    points = "percentage points of " if metric.name == "accuracy" else ""
    note = f"In {points}test {metric.name} at the last weights, over the seeds that both ran; "
    note += "paired t interval, two-sided sign-flip test; no p and no verdict below 10 seeds."
    columns = ("method - reference", "difference", "95 % interval", "seeds", "p", "verdict")
    return Table("Paired differences", note, columns, tuple(map(row, analysis.comparisons)))


def cost_table(analysis: Analysis) -> Table:
    """Say what the runs cost, and what was spent before them."""
    fields = ("num_steps", "cost", "search_cost", "tuning_cost", "seconds")
    rows = tuple(
        (
            method.label,
            *(mean_amount(method.values(name)) for name in fields),
            *meta_training(method),
        )
        for method in analysis.methods
    )
    note = "Means per run; 1 = one plain training step. The search during the run is part of its "
    note += "cost; tuning and meta-training came before the run and are not."
    columns = ("method", "steps", "cost", "of it search", "tuning before", "seconds")
    return Table("Cost", note, (*columns, "meta-training", "break-even runs"), rows)


def target_table(analysis: Analysis) -> Table:
    """Say how soon the runs reached the target."""
    rows = tuple(
        (
            method.label,
            f"{_reached(method.steps_to_target)} of {len(method.steps_to_target)}",
            _median(method.steps_to_target),
            _median(method.cost_to_target),
        )
        for method in analysis.methods
    )
    aim = score(analysis.target, analysis.metric)
    origin = f"the mean last value of {analysis.baseline}" if analysis.baseline else "as asked for"
    note = f"Validation {unit(analysis.metric)} {aim} ({origin}), seen at evaluations only; "
    note += "medians, a run that never reaches it being the slowest."
    return Table("Time to target", note, ("method", "reached", "steps", "cost"), rows)


def profile_table(profile: Profile) -> Table:
    """Read a performance profile (cost to target) at a few ratios."""
    at = (1.0, 1.5, 2.0, 4.0)
    rows = tuple(
        (label, *(f"{100 * profile.share_within(label, ratio):.0f}" for ratio in at))
        for label in profile.shares
    )
    note = f"Per cent of {profile.num_pairs} (problem, seed) pairs whose target was reached at no "
    note += "more than this multiple of the cheapest method's cost."
    return Table("Performance profile", note, ("method", *(f"{r:g} x" for r in at)), rows)


def meta_training(method: Method) -> tuple[str, str]:
    """Return the cost of a learned method's meta-training, and how many runs that would pay for."""
    if not method.group.learned:
        return NONE, NONE
    cost = method.group.runs[0].header.meta_training_cost
    runs = [value for value in method.values("cost") if value > 0]
    if math.isnan(cost) or not runs:
        return "unknown", NONE
    return amount(cost), f"{cost * len(runs) / sum(runs):.1f}"


def _status(method: Method) -> str:
    words = ("finished", "diverged", "unfinished")
    return ", ".join(f"{method.count(word)} {word}" for word in words if method.count(word))


def _run_cell(outcome: Outcome, analysis: Analysis) -> str:
    if outcome.status == "finished":
        return score(outcome.test_last, analysis.metric)
    return outcome.status.replace(" at step ", " at ")


def _reached(times: Times) -> int:
    return sum(math.isfinite(time) for time in times.values())


def _median(times: Times) -> str:
    """Write the median; between a time and never it is never."""
    ordered = sorted(times.values())
    if not ordered:
        return NONE
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return amount(sum(middle) / len(middle))
