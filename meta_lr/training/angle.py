"""The running angle of a run: a diagnostic for any method, which does not change the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from meta_lr.optim.angles import Trail, follow


class RunningAngle:
    """The angle between successive changes of the mean weights, over blocks of `every` steps.

    AutoDrop uses this angle. It needs memory for three copies of the parameters.

    Args:
        every: Steps per block; 0 measures no angles.
    """

    def __init__(self, every: int) -> None:
        if type(every) is not int or every < 0:
            raise ValueError(f"angle_every is {every}; it is a number of steps, 0 for no angles")
        self.every, self.steps = every, 0
        self.trail: Trail = ()

    def after_step(self, params: Sequence[Tensor]) -> float | Tensor | None:
        """Read the parameters after a step; return the angle at the end of a block, else None."""
        if not self.every:
            return None
        self.steps += 1
        self.trail, angle = follow(self.trail, params, self.steps, self.every)
        return angle

    def identity(self) -> dict[str, int]:
        """Return the settings that identify this record; empty without angles."""
        return {"angle_every": self.every} if self.every else {}

    def saved(self) -> dict[str, Any]:
        """Return everything that later angles depend on; empty without angles."""
        return {"angle": (self.steps, self.trail)} if self.every else {}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Restore the state that `saved` returned."""
        if self.every:
            self.steps, self.trail = saved["angle"]
