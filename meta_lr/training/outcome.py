"""The outcome of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn


class StoppedError(RuntimeError):
    """The run was asked to stop; it saved its state after `step` steps (or another unit)."""

    def __init__(self, step: int, folder: Path | None, *, unit: str = "steps") -> None:
        super().__init__(f"stopped after {step} {unit}")
        self.step, self.folder = step, folder


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        status: "finished", "diverged at step n", or why it ended before its last step.
        steps: Optimizer steps taken.
        cost: Total cost, in plain steps; search_cost is the controller's part of it.
        seconds: Wall-clock time, over all resumes; search_seconds is the part of experiments.
        model: The model with the last weights.
        state: The controller's last state.
        val: Metrics of the last evaluation on "val".
        test: Metrics on "test" at the weights "last", "best" (on val) and, if it was kept,
            "average"; empty if the run ended before its last step, or without a test.
        folder: Where the record is, if it was kept.
        best: The highest score of an evaluation on "val", at the weights "best". The score is the
            accuracy, or the negated loss if there is no accuracy; None if no score was finite.
        average: The model with the average of its last weights; None if no average was kept.
    """

    status: str
    steps: int
    cost: float
    search_cost: float
    seconds: float
    search_seconds: float
    model: nn.Module
    state: Any
    val: dict[str, float]
    test: dict[str, dict[str, float]]
    folder: Path | None
    best: float | None = None
    average: nn.Module | None = None
