"""The rows of a record. Each kind of row is made here, so its fields are defined in one place.

| kind | written | fields besides its kind |
| --- | --- | --- |
| header | first | what was run, on what, with which versions; any facts |
| step | for each recorded step | step, loss, lr, wait, what it cost |
| search | when a controller reports an experiment | step, any facts |
| angle | at the end of a block of steps | step, angle |
| eval | after each evaluation | step, split, weights, the task's metrics, what it cost |
| update | for each update of phi | update, score, best, diverged, what it cost |
| held_out | after each evaluation of phi | update, score, best, families, what it cost |
| end | last | status, steps or updates, counts that begin with "num_", what it cost |
| searching | never; only a listener gets it, during an experiment | any facts |

`wait` is the time that a step waited for its batch. Costs are in plain training steps, times in
seconds, angles in degrees, losses in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from torch import Tensor

Row: TypeAlias = dict[str, Any]
Facts: TypeAlias = Mapping[str, object]

COUNTED = "num_"  # prefix of a controller's counts in the end row
META_TRAINING = "plan"  # a field that only an episodic meta-training's header has


def header(*facts: Facts) -> Row:
    """Return the first row; later facts replace earlier ones with the same name."""
    return _joined({"kind": "header"}, *facts)


def step(at: int, loss: float | Tensor, lr: float, spent: Facts) -> Row:
    """Return the row of an optimizer step; a loss that is a tensor is read at the next flush."""
    return {"kind": "step", "step": at, "loss": loss, "lr": lr, **spent}


def search(note: Facts) -> Row:
    """Return the row of a controller's report of an experiment."""
    return {"kind": "search", **note}


def searching(note: Facts) -> Row:
    """Return the row that a listener gets before the row of the search is written."""
    return {"kind": "searching", **note}


def angle(at: int, angle: float | Tensor) -> Row:
    """Return the row of an angle between two changes of the mean weights."""
    return {"kind": "angle", "step": at, "angle": angle}


def evaluation(at: int, split: str, weights: str, metrics: Facts, spent: Facts) -> Row:
    """Return the row of one pass over a split.

    Args:
        at: Steps taken.
        split: Split of the task.
        weights: "current", or "last", "best" or "average" at the end of the run.
        metrics: Name -> value; "loss" is one of them.
        spent: The cost so far.
    """
    where = {"kind": "eval", "step": at, "split": split, "weights": weights}
    return {**where, **metrics, **spent}


def update(at: int, score: float, *, best: float, diverged: int, spent: Facts) -> Row:
    """Return the row of an update of phi."""
    row = {"kind": "update", "update": at, "score": score, "best": best, "diverged": diverged}
    return {**row, **spent}


def held_out(
    at: int, score: float, *, best: float, families: Mapping[str, float], spent: Facts
) -> Row:
    """Return the row of an evaluation of phi on the held-out problems, by family if several."""
    row: Row = {"kind": "held_out", "update": at, "score": score}
    if len(families) > 1:
        row["families"] = families
    return {**row, "best": best, **spent}


def end(status: str, unit: Literal["steps", "updates"], taken: int, *facts: Facts) -> Row:
    """Return the last row: how the run ended, after how many steps or updates, and other facts."""
    return _joined({"kind": "end", "status": status, unit: taken}, *facts)


def is_on_curve(row: Row) -> bool:
    """Return whether a row is an evaluation on "val" during training."""
    return row.get("split") == "val" and row.get("weights", "current") == "current"


def _joined(row: Row, *facts: Facts) -> Row:
    for some in facts:
        row.update(some)
    return row
