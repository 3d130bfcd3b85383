"""Lists of results: their columns and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meta_lr.lrbench.metrics import SCALES, refuse_target, robustness
from meta_lr.lrbench.result import KEY, KINDS, Result

Row = dict[str, Any]

PROBLEM = ("task", "model", "optimizer", "total_steps", "setting")
HIGHER_IS_BETTER = frozenset(
    name
    for name in KINDS
    if name.endswith(("accuracy", "top5", "confidence", "accuracy_best", "ended_at"))
) | {"robustness"}
COLUMNS = (
    *(name for name in KINDS if name not in ("curve", "ended_at", "folder")),
    *("loss_difference", "robustness", "steps_to_target", "cost_to_target"),
    *("ended_at", "folder"),
)
"""The columns of a list of results, in order; the two about a target are None without a target."""


def listed(results: Sequence[Result], *, target: float | None = None) -> list[Row]:
    """Return a row of `COLUMNS` for each result: sorted by problem, the best first in each.

    The best has the fewest steps to the target, if there is one, then the highest accuracy on
    `val`, then the lowest loss there.

    Args:
        results: Results of one or more problems. A run at another base learning rate is also a row.
            The run at the original one has the robustness, if the runs at all base rates exist.
        target: An accuracy in (0, 1], or a loss, on `val`.

    Raises:
        ValueError: No result can reach the target, because it is not an accuracy.
    """
    if target is not None:
        accurate = any(point.accuracy is not None for r in results for point in r.curve)
        refuse_target(target, accurate=accurate)
    families = _families(results)
    rows = [_row(result, families[_without_scale(result)], target) for result in results]
    for column in ("val_loss", "val_accuracy", "steps_to_target"):
        rows = by(rows, column)
    return sorted(rows, key=lambda row: tuple(row[name] for name in PROBLEM))


def by(rows: Sequence[Row], column: str) -> list[Row]:
    """Return the rows with the best value of a column first, unknown ones last; the sort is stable.

    Raises:
        ValueError: There is no such column.
    """
    if column not in COLUMNS:
        raise ValueError(f"there is no column '{column}'; choose one of {', '.join(COLUMNS)}")
    known = [row for row in rows if row[column] is not None]
    ordered = sorted(known, key=lambda row: row[column], reverse=column in HIGHER_IS_BETTER)
    return [*ordered, *(row for row in rows if row[column] is None)]


def _row(result: Result, family: Mapping[float, float], target: float | None) -> Row:
    reached = None if target is None else result.to_target(target)
    probed = result.scale == SCALES[0] and not result.diverged
    told = {
        **{name: getattr(result, name) for name in KINDS},
        "loss_difference": result.loss_difference,
        "robustness": robustness(family) if probed else None,
        "steps_to_target": None if reached is None else reached[0],
        "cost_to_target": None if reached is None else reached[1],
    }
    return {name: told[name] for name in COLUMNS}


def _families(results: Sequence[Result]) -> dict[tuple[object, ...], dict[float, float]]:
    """Group runs that differ only in their base learning rate: its factor -> `val` accuracy.

    A diverged run counts as an accuracy of 0. A run that has not ended is left out.
    """
    families: dict[tuple[object, ...], dict[float, float]] = {}
    for result in results:
        family = families.setdefault(_without_scale(result), {})
        accuracy = 0.0 if result.diverged else result.val_accuracy
        if accuracy is not None:
            family[result.scale] = accuracy
    return families


def _without_scale(result: Result) -> tuple[object, ...]:
    return tuple(getattr(result, name) for name in KEY if name != "scale")
