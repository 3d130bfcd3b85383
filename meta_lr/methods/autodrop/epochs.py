"""AutoDrop's first version, of 2021: few large drops, each with a restart from averaged weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from meta_lr.methods.autodrop.windows import refuse_rates
from meta_lr.methods.checks import refuse_counts
from meta_lr.optim.angles import Vector, are_of, beside, buffers, copy_to, turn
from meta_lr.protocol import Average, Need, StepView


class AutoDropEpochsState(NamedTuple):
    """The state of AutoDropEpochs."""

    lr: float  # the present learning rate
    theta: float  # the present threshold, in degrees
    trail: tuple[Vector, ...] = ()  # last snapshot and last direction; () before the first epoch
    snapshots: int = 0  # so far
    angle: float = math.nan  # the last one, in degrees; nan before the first one
    counter: int = 0  # epochs since saturation, including the saturated one; 0 before it
    total: Vector = ()  # weighted sum of the weights in these epochs; () if there are none
    num_drops: int = 0  # of the learning rate
    num_averages: int = 0  # restarts from an average


@dataclass(frozen=True)
class AutoDropEpochs:
    """Drop the learning rate by a large factor, from averaged weights, when the angle saturates.

    Update:
        with x_e the parameters after the first step of epoch e, s_e = x_e - x_(e-1):
        omega_e = angle between s_e and s_(e-1), in degrees;
        |omega_e - omega_(e-1)| < theta: saturated; this does not change until the drop;
        in each saturated epoch c <- c + 1, and z_c = the parameters after the second step of it;
        c = `extra_epochs`: theta <- min(upper_theta, theta / rho), lr <- max(floor, rho lr),
        the parameters <- sum_c c z_c / sum_c c, and c <- 0
    Reference:
        Teng et al. 2021, arXiv 2111.15317, and the authors' code
    Deviations:
        1. only the weighted sum is stored, not its terms;
        2. angles are computed by atan2 from float64 lengths; theirs use the arc cosine in float32.
        The order is that of their code: it decides and averages after the second step of an epoch.
        The last averaged weights are therefore `weight` p of an `Average` that is returned at that
        step, and the third step is the first one with the new learning rate. Momentum, the history
        of the angle and the running statistics of batch norm do not change. At the floor, the
        averaging continues.
    Cost:
        none; memory for three copies of the parameters, in float32 or better

    On digits, no benefit of the averaging was measured.

    Args:
        peak: The first learning rate.
        rho: Factor of a drop.
        theta: The first threshold, in degrees.
        upper_theta: The largest threshold, in degrees.
        floor: The smallest learning rate.
        extra_epochs: Number of epochs from saturation to the drop, both included.
        average: Whether the weights are averaged; False is the control without averaging.

    Raises:
        ValueError: An argument is out of range. In a run: an epoch has only one step.

    >>> method = AutoDropEpochs(0.1, extra_epochs=1)
    >>> view = StepView(method, 0, steps_per_epoch=9, params=[torch.ones(2)])
    >>> method(view, method.init())[0]
    0.1
    """

    peak: float
    rho: float = 0.2
    theta: float = 0.01
    upper_theta: float = 1.0
    floor: float = 1e-4
    extra_epochs: int = 20
    average: bool = True
    needs = Need.PARAMS | Need.EPOCHS

    def __post_init__(self) -> None:
        refuse_rates(self, self.peak, self.rho, self.floor)
        refuse_counts(self, 1, "extra_epochs")
        if not 0 <= self.theta <= self.upper_theta < math.inf:
            raise ValueError(
                f"AutoDropEpochs got theta={self.theta}, upper_theta={self.upper_theta}; "
                "it needs 0 <= theta <= upper_theta, finite, in degrees"
            )

    def init(self) -> AutoDropEpochsState:
        """Return the state before the first step."""
        return AutoDropEpochsState(self.peak, self.theta)

    def __call__(
        self, view: StepView, state: AutoDropEpochsState
    ) -> tuple[float | Average, AutoDropEpochsState]:
        """Return this step's learning rate, with an average if it drops after this step."""
        if view.steps_per_epoch < 2:
            raise ValueError(
                "AutoDropEpochs looks after the first and the second step of an epoch, and an "
                f"epoch has {view.steps_per_epoch}; make batches smaller, or take lr=autodrop"
            )
        steps = view.step % view.steps_per_epoch  # already taken in this epoch
        if state.trail and not are_of(state.trail, view.params):  # parameters were added: restart
            state = state._replace(trail=(), snapshots=0, angle=math.nan, counter=0, total=())
        if state.total and steps == 2 % view.steps_per_epoch:
            (total,) = beside((state.total,), view.params)
            torch._foreach_add_(total, list(view.params), alpha=state.counter)
            state = state._replace(total=total)
        if steps != 1:
            return state.lr, state
        state = self._look(view, state)
        return self._drop(view, state) if state.counter == self.extra_epochs else (state.lr, state)

    def _look(self, view: StepView, state: AutoDropEpochsState) -> AutoDropEpochsState:
        """Take the snapshot of an epoch; return the state with its angle and its saturation."""
        last, way = beside(state.trail, view.params) if state.trail else buffers(view.params, 2)
        turned = turn(view.params, last, way)
        copy_to(way, view.params)
        angle = float(turned) if state.snapshots >= 2 else math.nan
        settled = abs(angle - state.angle) < state.theta
        counter = state.counter + (settled or state.counter > 0)
        if counter == 1 and self.average:
            state = state._replace(total=buffers(view.params, 1)[0])
        return state._replace(
            trail=(way, last), snapshots=state.snapshots + 1, angle=angle, counter=counter
        )

    def _drop(
        self, view: StepView, state: AutoDropEpochsState
    ) -> tuple[float | Average, AutoDropEpochsState]:
        """Return this step's learning rate with the average after it, and the next state."""
        lr = max(self.floor, self.rho * state.lr)
        after = state._replace(
            lr=lr,
            theta=min(self.upper_theta, state.theta / self.rho),
            counter=0,
            total=(),
            num_drops=state.num_drops + (lr < state.lr),
            num_averages=state.num_averages + self.average,
        )
        if not self.average:
            return state.lr, after
        whole = self.extra_epochs * (self.extra_epochs + 1) / 2
        (total,) = beside((state.total,), view.params)
        torch._foreach_div_(total, whole)
        return Average(state.lr, self.extra_epochs / whole, total), after
