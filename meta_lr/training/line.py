"""The line of the optimizer's next step, and the loss on this line."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import torch

from meta_lr.protocol import StepView, groups_of_params
from meta_lr.vectors import Vector, axpy, norm

if TYPE_CHECKING:
    from meta_lr.training.sandbox import Sandbox


class Line(NamedTuple):
    """The points start - rate * step: the weights after the optimizer's next step, at each rate.

    Attributes:
        sandbox: Measures the loss without a change of the run.
        start: The live parameters, in the optimizer's group order.
        step: What is subtracted per unit of the first group's learning rate, same shapes. It
            includes momentum, preconditioning, decay and the ratios of the other groups.
    """

    sandbox: Sandbox
    start: Vector
    step: Vector

    def loss(self, rate: float, draw: int | None) -> float:
        """Return the loss after a step at `rate`, on a new batch, or for None on the run's own.

        The same draw gives the same batch, augmentation and dropout mask at every rate. BatchNorm
        uses the batch's statistics, as in training, and does not store them.
        """
        with torch.no_grad():
            return float(self.sandbox.loss(axpy(-rate, self.step, self.start), draw))

    def losses(self, rates: Sequence[float], draws: Sequence[int | None]) -> list[list[float]]:
        """Return, for each learning rate, the loss on each of the same batches."""
        return [[self.loss(rate, draw) for draw in draws] for rate in rates]

    def mean_losses(self, rates: Sequence[float], draws: Sequence[int | None]) -> list[float]:
        """Return, for each learning rate, the mean loss over the same batches."""
        return [fmean(losses) for losses in self.losses(rates, draws)]

    def norm(self) -> float:
        """Return the length of `step`."""
        return float(norm(self.step))


def line(view: StepView) -> Line:
    """Return the line of the next step; this reads params, direction and sandbox of the view."""
    scales = [scale for _, scale in groups_of_params(view.sandbox.optimizer)]
    step = list(view.direction)
    if any(scale != 1.0 for scale in scales):
        step = list(torch._foreach_mul(step, scales))
    return Line(view.sandbox, view.params, step)
