"""Schedules that are meta-trained: what they read of parallel copies, and their meta-parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from meta_lr.optim.signals import Pieces
from meta_lr.protocol import Controller
from meta_lr.vectors import Tensors


class Seen(NamedTuple):
    """One step of all copies; the first dimension of each tensor is the copy.

    It holds the values that a controller reads in its `StepView`: the gradients of the step are
    known, and the weights have not changed yet.
    """

    losses: Tensor  # (copies,)
    params: Tensor  # (copies, numbers): of the tensors that `meta_lr.optim.signals.chosen` names
    grads: Tensor  # (copies, numbers), of the same
    direction: Callable[[], Tensor]  # what is subtracted per unit of learning rate, same shape
    step: int  # inner steps taken so far, from 0
    total_steps: int
    pieces: Pieces  # position of each tensor in these numbers


class Schedule(Protocol):
    """A schedule as a pure function of its weights, such as `Learned` and `SelfTuning`."""

    def init(self) -> Any:
        """Return the state before the first step: a NamedTuple."""
        ...

    def side_by_side(self, weights: Tensors, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return the learning rates (copies,) and the next state, using torch operations only.

        Args:
            weights: The weights; the first dimension of each tensor is the copy.
            seen: The step of all copies.
            state: The state; the first dimension of each tensor is the copy.
        """
        ...


@runtime_checkable
class Differentiable(Protocol):
    """A schedule whose learning rate can be differentiated in its meta-parameters, phi."""

    @property
    def phi(self) -> Tensors:
        """The schedule's own meta-parameters."""
        ...

    def differentiable(self, phi: Tensors) -> Controller:
        """Return the schedule as a controller with `phi`, differentiable in `phi`."""
        ...


class Learner(Controller, Differentiable, Protocol):
    """A controller that gives its learning rate as a tensor with a graph to its meta-parameters.

    Its state has a field `memory` of tensors.
    """

    @property
    def highest(self) -> float:
        """The largest learning rate that the controller can give."""
        ...

    def differentiable(self, phi: Tensors) -> Learner:
        """Return the controller with these meta-parameters, differentiable in them."""
        ...


def differentiable(schedule: Schedule, phi: Tensors | None = None) -> Controller:
    """Return the schedule as a controller to back-propagate through.

    Args:
        schedule: Learned or self-tuning.
        phi: Meta-parameters that replace the schedule's own; None keeps its own.

    Raises:
        ValueError: The schedule is of another kind.
    """
    if not isinstance(schedule, Differentiable):
        raise ValueError(
            f"{type(schedule).__name__} has no gradient in its weights; back-propagation needs "
            "Learned or SelfTuning; choose estimator=es"
        )
    return schedule.differentiable(schedule.phi if phi is None else phi)
