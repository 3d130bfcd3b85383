"""The result of one run: one row of the store, of a CSV file, and of a JSON file."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from meta_lr.lrbench.metrics import Point, loss_difference, to_target

KEY = ("task", "model", "optimizer", "policy", "scale", "seed", "total_steps", "setting")
"""The fields that say which run it was; there is one result for each."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run and its metrics; values that are unknown or not finite are None.

    The metrics are those of `meta_lr.lrbench.metrics`; they are None for a diverged run.

    Args:
        task: Name of the task.
        model: Name of the model.
        optimizer: Family of the optimizer, such as "sgd_momentum".
        policy: What chose the learning rates, as text.
        scale: Factor of the policy's learning rates; 1, unless the run measures the robustness.
        seed: Seed of the run.
        total_steps: Planned length of the run (its budget), in optimizer steps.
        setting: Text that distinguishes problems of the same name, such as a hash of the configs of
            task, model and optimizer and of the data; "" if there is none.
        status: "finished", "diverged at step n", or why the run was stopped before its end.
        steps: Optimizer steps taken.
        cost: Total cost, in plain steps; `search_cost` is the part of experiments.
        search_cost: See `cost`.
        seconds: Wall-clock time; `search_seconds` is the part of experiments.
        search_seconds: See `seconds`.
        train_loss: Mean of the training losses of the last pass over the training data.
        val_loss: At the last evaluation, like all `val_` fields; for choices.
        val_accuracy: Top-1, in [0, 1].
        val_top5: Top-5, in [0, 1].
        val_confidence: Average confidence of correct answers, in [0, 1].
        val_confidence_spread: Its standard deviation over examples.
        val_class_spread: Its standard deviation over classes.
        test_loss: At the last weights, like the other `test_` fields; for reports.
        test_accuracy: As on `val`.
        test_top5: As on `val`.
        test_confidence: As on `val`.
        test_confidence_spread: As on `val`.
        test_class_spread: As on `val`.
        test_accuracy_best: At the best weights on `val`.
        ended_at: Time of the end of the run: ISO 8601, UTC.
        folder: Where the record is; "" if there is none.
        curve: The evaluations on `val`, in order.

    Raises:
        TypeError: A field is of another type.
    """

    task: str
    model: str
    optimizer: str
    policy: str
    scale: float = 1.0
    seed: int
    total_steps: int
    setting: str = ""
    status: str
    steps: int
    cost: float
    search_cost: float = 0.0
    seconds: float | None = None
    search_seconds: float | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    val_top5: float | None = None
    val_confidence: float | None = None
    val_confidence_spread: float | None = None
    val_class_spread: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    test_top5: float | None = None
    test_confidence: float | None = None
    test_confidence_spread: float | None = None
    test_class_spread: float | None = None
    test_accuracy_best: float | None = None
    ended_at: str = ""
    folder: str = ""
    curve: tuple[Point, ...] = ()

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
"""What each field holds: "str", "int", "float", "float | None" or "tuple[Point, ...]"."""

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
