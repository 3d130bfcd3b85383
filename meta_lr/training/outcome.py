"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn


class StoppedError(RuntimeError):
    """The run was asked to stop; it saved its state after `step` steps, or other units."""

    def __init__(self, step: int, folder: Path | None, *, unit: str = "steps") -> None:
        super().__init__(f"stopped after {step} {unit}")
        self.step, self.folder = step, folder


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        status: "finished", "diverged at step n", or why it ended before its last step.
        steps: Optimizer steps taken.
        cost: All that was spent, in plain steps; search_cost is the controller's part of it.
        seconds: Wall-clock time, over all resumes; search_seconds is the part of experiments.
        model: The model at the last weights.
        state: The controller's last state.
        val: Metrics of the last evaluation on "val".
        test: Metrics on "test" at the weights "last", "best" (on val) and, if one was kept,
            "average"; empty if it ended before its last step, or was not to be tested.
        folder: Where the record is, if it was kept.
        best: The highest score of an evaluation on "val", that of the weights "best": the accuracy,
            or the negated loss where there is none; None if no evaluation had a finite one.
        average: The model at the average of its last weights; None if no average was kept.
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
