"""Runs whose length changes: stopped early, continued after their end, or of unknown length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from benchmarks.scorecard import average, families
from benchmarks.scorecard.finals import bound, bounded
from benchmarks.scorecard.steering import Outcome, Steering
from benchmarks.scorecard.tuned import AVERAGED
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.look_ahead import Point
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.schedules import Schedule, Seen
from meta_lr.vectors import Tensors

FAMILIES = ("wide", "residual", "transformer", "regression")
PLANS: dict[float, tuple[float, ...]] = {  # planned length -> steps at which the run is measured
    0.25: (0.25,),
    0.5: (0.5,),
    0.75: (0.75,),
    1.0: (0.25, 0.5, 0.75, 1.0),
    2.0: (2.0,),
    4.0: (1.0,),
}  # all in units of T
QUARTERS = (20, 40)  # smallest and largest number of steps in a quarter of T
RESTARTED, EXTENDED = "restarted", "extended"  # two ways to continue from T to 2 T


class Restarted(NamedTuple):
    """A new schedule that begins at a later step; the optimizer keeps its state."""

    schedule: Schedule
    start: int

    def init(self) -> Any:
        """Return the new schedule's state."""
        return self.schedule.init()

    def side_by_side(self, weights: Tensors, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return the learning rates (copies,) and the next state."""
        step, left = seen.step - self.start, seen.total_steps - self.start
        return self.schedule.side_by_side(
            weights, seen._replace(step=step, total_steps=left), state
        )


def problem(family: str, number: int, seed: int) -> Problem:
    """Return a scorecard problem with about half of its steps, a multiple of four."""
    made = families.problem(family, number, seed)
    quarter = min(max(made.total_steps // 8, QUARTERS[0]), QUARTERS[1])
    return made._replace(total_steps=4 * quarter)


def place(planned: float, stopped: float) -> str:
    """Return the name of a measurement: both lengths in units of T."""
    return f"planned {planned:g}, at {stopped:g}"


def run(family: str, number: int, seed: int, by: Steering) -> Outcome:
    """Return the losses of all runs of one problem."""
    made = problem(family, number, seed)
    total, worst, found = made.total_steps, bound(made), {}
    for planned, stops in PLANS.items():
        copies = Copies(made._replace(total_steps=round(planned * total)), by.schedule, 1)
        for stop, ends in stopped(copies, by.phi, [round(stop * total) for stop in stops]).items():
            name = place(planned, stop / total)
            for kind, point in zip(("", AVERAGED), ends, strict=True):
                found[name + kind] = copies.mean_loss(point, "val")
            if name == place(1.0, 1.0):
                found |= further(made, ends[0], by)
    return {name: bounded(losses, worst)[0] for name, losses in found.items()}


def stopped(copies: Copies, phi: Tensors, steps: Sequence[int]) -> dict[int, tuple[Point, Point]]:
    """Return the copies after each of these steps: with their weights, and with the average."""
    runs = zip(range(1, max(steps) + 1), average.along(copies, phi), strict=False)
    return {step: ends for step, ends in runs if step in steps}


def further(made: Problem, end: Point, by: Steering) -> dict[str, Tensor]:
    """Return the losses (1,) after T more steps: with a new schedule, and with the old one's state.

    Args:
        made: The problem, of T steps.
        end: The run after T steps.
        by: The schedule of the run.
    """
    total = made.total_steps
    longer = made._replace(total_steps=2 * total)
    restarted, extended = (
        Copies(longer, schedule, 1) for schedule in (Restarted(by.schedule, total), by.schedule)
    )
    fresh = end._replace(state=restarted.start().state)
    return {
        RESTARTED: restarted.mean_loss(restarted.run(fresh, by.phi, total, total), "val"),
        EXTENDED: extended.mean_loss(extended.run(end, by.phi, total, total), "val"),
    }
