"""The result of one run: one row of the store, of a CSV file, and of a JSON file."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from meta_lr.lrbench.metrics import Point, loss_difference, to_target

KEY = ("task", "model", "optimizer", "policy", "scale", "seed", "total_steps", "setting")
"""The fields that identify a run; the store has one result for each of their values."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run and its metrics; values that are unknown or not finite are None.

    The metrics are those of `meta_lr.lrbench.metrics`; they are None for a diverged run.

    The fields on `val` are those of the last evaluation, and are for choices. The fields on `test`
    are those at the last weights, and are for reports.

    Raises:
        TypeError: A field is of another type.
    """

    task: str  # name of the task
    model: str  # name of the model
    optimizer: str  # family of the optimizer, such as "sgd_momentum"
    policy: str  # what chose the learning rates, as text
    scale: float = 1.0  # factor of the learning rates; not 1 only in a test of the robustness
    seed: int  # of the run
    total_steps: int  # planned length of the run (its budget), in optimizer steps
    # Distinguishes problems of the same name, such as a hash of the configs of task, model and
    # optimizer and of the data; "" if there is nothing to distinguish.
    setting: str = ""
    status: str  # "finished", "diverged at step n", or why the run was stopped before its end
    steps: int  # optimizer steps taken
    cost: float  # in total, in plain steps
    search_cost: float = 0.0  # the part of the cost that experiments have
    seconds: float | None = None  # wall-clock time
    search_seconds: float | None = None  # the part of the time that experiments have
    train_loss: float | None = None  # mean training loss of the last pass over the training data
    val_loss: float | None = None
    val_accuracy: float | None = None  # top-1, in [0, 1]
    val_top5: float | None = None  # top-5, in [0, 1]
    val_confidence: float | None = None  # average confidence of correct answers, in [0, 1]
    val_confidence_spread: float | None = None  # its standard deviation over examples
    val_class_spread: float | None = None  # its standard deviation over classes
    test_loss: float | None = None
    test_accuracy: float | None = None
    test_top5: float | None = None
    test_confidence: float | None = None
    test_confidence_spread: float | None = None
    test_class_spread: float | None = None
    test_accuracy_best: float | None = None  # at the best weights on `val`
    ended_at: str = ""  # time of the end of the run: ISO 8601, UTC
    folder: str = ""  # where the record is; "" if there is none
    curve: tuple[Point, ...] = ()  # the evaluations on `val`, in order

    def __post_init__(self) -> None:
        for name, kind in KINDS.items():
            object.__setattr__(self, name, _checked(name, kind, getattr(self, name)))

    @property
    def key(self) -> tuple[str | float, ...]:
        """The values of the fields in `KEY`."""
        return tuple(getattr(self, name) for name in KEY)

    @property
    def diverged(self) -> bool:
        """Whether the run diverged."""
        return self.status.startswith("diverged")

    @property
    def loss_difference(self) -> float | None:
        """Test - train loss."""
        return loss_difference(test=self.test_loss, train=self.train_loss)

    @property
    def val_loss_difference(self) -> float | None:
        """Val - train loss, for choices."""
        return loss_difference(test=self.val_loss, train=self.train_loss)

    def to_target(self, target: float) -> tuple[int, float] | None:
        """Return steps and cost until `target` was reached; None if it was not, or it diverged."""
        return to_target(() if self.diverged else self.curve, target)


KINDS = {field.name: str(field.type) for field in fields(Result)}
"""Field -> its type: "str", "int", "float", "float | None" or "tuple[Point, ...]"."""

_POINT = ("int", "float", "float | None", "float | None")


def _checked(name: str, kind: str, value: Any) -> Any:
    """Return a field's value in its own type; a whole number is accepted as a float."""
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "tuple[Point, ...]":
        return _points(value)
    if kind == "float | None" and value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if kind == "int" and isinstance(value, int) and abs(value) < 2**63:
            return value
        if kind == "float | None":
            return float(value) if math.isfinite(value) else None
        if kind == "float" and math.isfinite(value):
            return float(value)
    needed = {"str": "a text", "int": "a whole number of 64 bits", "float": "a finite number"}
    raise TypeError(f"{name} is {value!r}; {needed.get(kind, 'a number')} is needed")


def _points(value: Any) -> tuple[Point, ...]:
    listed = isinstance(value, list | tuple)
    if not listed or any(not isinstance(p, list | tuple) or len(p) != len(_POINT) for p in value):
        raise TypeError("curve is no list of [step, cost, accuracy, loss]")
    return tuple(
        Point(
            *(_checked("a number of the curve", *pair) for pair in zip(_POINT, point, strict=True))
        )
        for point in value
    )
