"""LABPAL: an occasional parabola through the loss of many batches; its result is used for long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meta_lr.methods.checks import refuse_counts, refuse_not_positive
from meta_lr.protocol import Need, StepView
from meta_lr.training.line import Line, line

SLOPE, CURVATURE = 1.77e-4, 0.01  # besides 0, positions along a unit direction to measure


class LABPALState(NamedTuple):
    """The learning rate, the step of the next measurement, and the averaged learning rates."""

    lr: float = 0.0  # the present learning rate; 0 before the first measurement
    due: int = 0  # the next measurement is made at this step or later
    measured: tuple[float, ...] = ()  # the last measured learning rates, without those of the start
    num_measured: int = 0  # measurements
    num_accepted: int = 0  # measurements that gave a learning rate


@dataclass(frozen=True)
class LABPAL:
    """Every thousand steps, measure the step length to the minimum; average it over the run.

    Update:
        with u what the optimizer subtracts per unit of rate, L(s) the mean loss over `batches` at
        w - s u / |u|, and a s^2 + b s + c through L(0), L(1.77e-4) and L(0.01):
        r = kappa min(-b / (2 a), max_step) / |u|, if a > 0 > b and |u| is within its bounds;
        rate = the mean of the last `average` values r after step `skipped`; before it, r itself.
        r is measured at step 0, at step skipped + 1, and then every `reuse` steps
    Reference:
        Mutschler & Zell 2021, arXiv 2108.13880, the variant with SGD, and its published code
    Deviations:
        1. the code computes the curvature from the difference of differences at the edge, which
        halves it. For the step length of the code, set kappa=3.6 and max_step=0.5;
        2. the step at a measurement also uses the new learning rate, not the averaged length;
        3. u is the optimizer's direction, and the batch size does not change. The code doubles it
        at 75,000 and 112,500 steps, and measures ten times its batches there;
        4. before the first learning rate is found, it is 0 and each step measures. It is an error
        if the first |u| is out of bounds. If |u| = 0, the learning rate does not change, and the
        next step measures.
    Cost:
        3 x `batches` forward passes per measurement: by default 1 % of the run's steps

    The measured losses differ by little more than the rounding error of float32, so the curvature
    may have an error of 50 %. The method was made for classification. Its authors say that it tends
    to fail if the loss is a sum of many losses.

    Args:
        batches: Number of batches per measurement: the run's own batch and new ones.
        reuse: Number of steps for which a measurement is used.
        skipped: Number of steps at the start whose learning rates are not averaged.
        average: Number of the last learning rates that are averaged.
        max_step: The longest step to a minimum.
        kappa: Factor of the step to the minimum.
        min_norm: Smallest norm of u; below it nothing is measured.
        max_norm: Largest norm of u; above it nothing is measured. Adam's directions are longer
            than SGD's.

    Raises:
        ValueError: An argument is out of range. In a run: the first |u| is out of range.

    >>> method = LABPAL(skipped=400, reuse=1000)
    >>> [method.next_due(step) for step in (0, 401, 1401)]
    [401, 1401, 2401]
    """

    batches: int = 10
    reuse: int = 1000
    skipped: int = 400
    average: int = 25
    max_step: float = 1.0
    kappa: float = 1.8
    min_norm: float = 1e-3
    max_norm: float = 100.0
    needs = Need.PARAMS | Need.DIRECTION | Need.TRIALS

    def __post_init__(self) -> None:
        refuse_counts(self, 1, "batches", "reuse", "average")
        refuse_counts(self, 0, "skipped")
        refuse_not_positive(self, "max_step", "kappa")
        if not 0 <= self.min_norm < self.max_norm:
            bounds = f"min_norm={self.min_norm}, max_norm={self.max_norm}"
            raise ValueError(f"LABPAL got {bounds}; it needs 0 <= min_norm < max_norm")

    def init(self) -> LABPALState:
        """Return the state before the first step."""
        return LABPALState()

    def __call__(self, view: StepView, state: LABPALState) -> tuple[float, LABPALState]:
        """Return the learning rate of this step, and the next state."""
        if view.step >= state.due:
            state = self._measured(view, state)
        return state.lr, state

    def next_due(self, step: int) -> int:
        """Return the step of the measurement that follows the one at `step`."""
        later = step + self.reuse
        return min(later, self.skipped + 1) if step <= self.skipped else later

    def _measured(self, view: StepView, state: LABPALState) -> LABPALState:
        ahead = line(view)
        length = ahead.norm()
        if length == 0.0:  # no learning rate can change the weights
            return state._replace(due=view.step + 1)
        if not self.min_norm <= length <= self.max_norm:
            return self._out_of_bounds(view, state, length)
        losses = self._losses(ahead, length)
        b, a = parabola(losses)
        accepted = a > 0 > b
        found = self.kappa * min(-b / (2 * a), self.max_step) / length if accepted else None
        state = self._told(view.step, state, found)
        view.sandbox.note(what="fit", lr=state.lr, found=found, slope=b, curvature=a, losses=losses)
        return state

    def _losses(self, ahead: Line, length: float) -> list[float]:
        draws = (None, *range(self.batches - 1))
        return ahead.mean_losses([0.0, SLOPE / length, CURVATURE / length], draws)

    def _told(self, step: int, state: LABPALState, found: float | None) -> LABPALState:
        """Return the state after a measurement; `found` is its learning rate, if any."""
        state = state._replace(num_measured=state.num_measured + 1)
        if found is None:  # without a learning rate, the next step measures
            due = self.next_due(step) if state.num_accepted else step + 1
            return state._replace(due=due)
        measured = state.measured
        if step > self.skipped:
            measured = (*measured, found)[-self.average :]
        lr = math.fsum(measured) / len(measured) if measured else found
        return LABPALState(
            lr, self.next_due(step), measured, state.num_measured, state.num_accepted + 1
        )

    def _out_of_bounds(self, view: StepView, state: LABPALState, length: float) -> LABPALState:
        if view.step == 0:
            raise ValueError(
                f"the optimizer's direction has the norm {length:.3g}, and LABPAL needs one from "
                f"min_norm={self.min_norm:g} to max_norm={self.max_norm:g}; widen these"
            )
        return state._replace(due=view.step + 1)


def parabola(losses: Sequence[float]) -> tuple[float, float]:
    """Return b and a of the parabola a s^2 + b s + c through three losses, by divided differences.

    >>> b, a = parabola([2 * s**2 - 3 * s for s in (0, SLOPE, CURVATURE)])
    >>> round(b, 6), round(a, 6)
    (-3.0, 2.0)
    """
    first, second, third = losses
    near, far = (second - first) / SLOPE, (third - first) / CURVATURE
    a = (far - near) / (CURVATURE - SLOPE)
    return near - a * SLOPE, a
