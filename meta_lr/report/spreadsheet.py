"""The report's numbers as CSV: one row per method and problem, raw units, full precision."""

from __future__ import annotations

from collections.abc import Sequence

from meta_lr.csv_text import as_csv
from meta_lr.report.analysis import Analysis, Method
from meta_lr.report.comparison import Comparison, mean_and_spread

SPREADS = ("test_last", "test_best", "test_average", "test_loss", "val")
VIEWS = ("val_at_steps", "test_at_steps", "val_at_cost", "test_at_cost")
COSTS = ("num_steps", "cost", "search_cost", "tuning_cost", "seconds", "search_seconds")
COMPARED = ("reference", "difference", "low", "high", "seeds", "p", "verdict")


def to_csv(analyses: Sequence[Analysis]) -> str:
    """Return all problems as one CSV; accuracies in [0, 1], costs in plain steps, empty = unknown.

    Methods are sorted by their mean, best first. A method has one row per comparison. A method
    without a comparison has one row with empty cells for it.
    """
    pairs = [(analysis, method) for analysis in analyses for method in analysis.methods]
    return as_csv([_columns(), *(row for pair in pairs for row in _rows(*pair))])


def _columns() -> list[str]:
    spreads = [f"{name}_{part}" for name in SPREADS for part in ("mean", "sd")]
    return [
        *("task", "model", "optimizer", "total_steps", "metric", "equal_steps", "equal_cost"),
        *("method", "peak", "tuned", "n", "finished", "diverged", "unfinished"),
        *spreads,
        *(f"{name}_mean" for name in VIEWS + COSTS),
        *("meta_training_cost", "target", "test_last_by_seed"),
        *COMPARED,
    ]


def _rows(analysis: Analysis, method: Method) -> list[list[str]]:
    own = [c for c in analysis.comparisons if c.method == method.label]
    start = [*_where(analysis), *_what(analysis, method)]
    return [[*start, *_compared(comparison)] for comparison in own] or [
        [*start, *("" for _ in COMPARED)]
    ]


def _where(analysis: Analysis) -> list[str]:
    problem, limits = analysis.problem, analysis.limits
    names = [problem.task, problem.model, problem.optimizer, str(problem.total_steps)]
    return [*names, analysis.metric.name, str(limits.steps), _text(limits.cost)]


def _what(analysis: Analysis, method: Method) -> list[str]:
    statuses = [str(method.count(word)) for word in ("finished", "diverged", "unfinished")]
    spreads = [_text(part) for name in SPREADS for part in mean_and_spread(method.values(name))]
    views = [_text(mean_and_spread(method.values_of_all(name))[0]) for name in VIEWS]
    costs = [_text(method.mean(name)) for name in COSTS]
    by_seed = " ".join(f"{o.seed}:{_text(o.test_last)}" for o in method.outcomes)
    price = _text(method.meta_training_cost)
    peak, tuned = " ".join(map(_text, method.group.peaks)), method.group.tuned
    start = [method.label, peak, "" if tuned is None else str(tuned).lower()]
    numbers = [*spreads, *views, *costs, price, _text(analysis.target)]
    return [*start, str(len(method.counted)), *statuses, *numbers, by_seed]


def _compared(comparison: Comparison) -> list[str]:
    numbers = [_text(value) for value in (comparison.mean, comparison.low, comparison.high)]
    p = "" if comparison.p is None else _text(comparison.p)
    seeds = str(len(comparison.differences))
    return [comparison.reference, *numbers, seeds, p, comparison.verdict]


def _text(value: float) -> str:
    """Write a number so that it can be read back exactly; "" for an unknown number."""
    return "" if value != value else repr(float(value))
