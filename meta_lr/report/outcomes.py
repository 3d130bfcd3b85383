"""The outcome and the cost of one run; a diverged run has the worst possible value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meta_lr.report.runs import Evaluation, Run


@dataclass(frozen=True)
class Metric:
    """The compared metric: "accuracy" if the task has it, else "loss"."""

    name: str
    higher_is_better: bool
    worst: float

    def of(self, evaluation: Evaluation) -> float:
        """Read the metric; nan counts as the worst value."""
        value = evaluation.accuracy if self.higher_is_better else evaluation.loss
        return self.worst if math.isnan(value) else value

    def reaches(self, value: float, target: float) -> bool:
        """Whether `value` is at least as good as `target`."""
        return value >= target if self.higher_is_better else value <= target


ACCURACY = Metric("accuracy", higher_is_better=True, worst=0.0)
LOSS = Metric("loss", higher_is_better=False, worst=math.inf)


@dataclass(frozen=True)
class Outcome:
    """One run in numbers: values in the metric's unit (nan: not measured), costs in plain steps.

    `val` is the last validation value. `test_last`, `test_best` and `test_average` are the test
    values at the last weights, at the best weights on val, and at the average of the last weights.
    The fields `_at_steps` and `_at_cost` are values known after the common number of steps and
    within the common cost.
    """

    seed: int
    status: str
    test_last: float
    test_best: float
    test_average: float
    test_loss: float
    val: float
    val_at_steps: float
    test_at_steps: float
    val_at_cost: float
    test_at_cost: float
    num_steps: int
    cost: float
    search_cost: float
    tuning_cost: float
    seconds: float
    search_seconds: float


@dataclass(frozen=True)
class Limits:
    """The largest number of steps and the largest cost that every completed run has reached."""

    steps: int
    cost: float


def choose_metric(runs: Iterable[Run]) -> Metric:
    """Choose accuracy if any evaluation has one, else loss."""
    values = (e.accuracy for run in runs for e in run.evaluations)
    return ACCURACY if any(not math.isnan(value) for value in values) else LOSS


def common_limits(runs: Sequence[Run]) -> Limits:
    """Return the common limits of the finished runs (of all runs if none is finished)."""
    finished = [run for run in runs if run.finished] or runs
    return Limits(min(run.num_steps for run in finished), min(run.cost for run in finished))


def outcome(run: Run, metric: Metric, limits: Limits) -> Outcome:
    """Reduce a run to its outcome."""
    test_last, test_best = (_test(run, metric, weights) for weights in ("last", "best"))
    within_steps = run.diverged or run.num_steps <= limits.steps
    within_cost = run.diverged or _within(run.cost, limits.cost)
    nan = math.nan
    return Outcome(
        seed=run.header.seed,
        status=run.status,
        test_last=test_last,
        test_best=test_best,
        test_average=_test(run, metric, "average") if run.header.average else math.nan,
        test_loss=_test(run, LOSS, "last"),
        val=value_within(run, metric),
        val_at_steps=value_within(run, metric, steps=limits.steps),
        test_at_steps=test_last if within_steps else nan,
        val_at_cost=value_within(run, metric, cost=limits.cost),
        test_at_cost=test_last if within_cost else nan,
        num_steps=run.num_steps,
        cost=run.cost,
        search_cost=run.search_cost,
        tuning_cost=run.header.search_cost_before,
        seconds=run.seconds,
        search_seconds=run.search_seconds,
    )


def value_within(
    run: Run, metric: Metric, *, steps: float = math.inf, cost: float = math.inf
) -> float:
    """Return the last validation value known within the limits: nan if none, worst if diverged.

    There is no interpolation: the value is that of the last evaluation at or before the limit.
    """
    if run.diverged:
        return metric.worst
    known = [e for e in validations(run) if e.step <= steps and _within(e.cost, cost)]
    return metric.of(known[-1]) if known else math.nan


def validations(run: Run) -> list[Evaluation]:
    """Return the validation evaluations of the current weights, in order."""
    return [e for e in run.evaluations if e.split == "val" and e.weights == "current"]


def _test(run: Run, metric: Metric, weights: str) -> float:
    if run.diverged:
        return metric.worst
    rows = [e for e in run.evaluations if e.split == "test" and e.weights == weights]
    return metric.of(rows[-1]) if rows else math.nan


def _within(cost: float, limit: float) -> bool:
    """Compare sums of costs with a tolerance; an unknown cost is within no finite limit."""
    return limit == math.inf or cost <= limit * (1 + 1e-9)
