"""Schedules as controllers whose learning rate is differentiable in the meta-parameters, phi."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from meta_lr.bilevel.copies import Schedule
from meta_lr.protocol import Controller
from meta_lr.vectors import Tensors


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
