"""PAL: at each step, fit a parabola along the direction and step to its minimum."""

from __future__ import annotations

import math
from dataclasses import dataclass

from meta_lr.methods.basic import Stateless
from meta_lr.methods.checks import refuse_not_positive
from meta_lr.protocol import Need, NoState, StepView
from meta_lr.training.line import line
from meta_lr.vectors import dot


@dataclass(frozen=True)
class PAL(Stateless):
    """Step to the minimum of a parabola, fitted to the loss, its slope and one more loss.

    Update:
        with u what the optimizer subtracts per unit of rate, g the gradient, L(s) the batch's loss
        at w - s u / |u|:
        b = -g'u / |u|, a = (L(mu) - L(0) - b mu) / mu^2;
        step = min(kappa (-b) / (2 a), max_step)  if a > 0 and b < 0,
               min(mu, max_step)                  if a <= 0 and b < 0,
               0                                  else;
        rate = step / |u|
    Reference:
        Mutschler & Zell 2020, arXiv 1903.11991, and its published code
    Deviations:
        1. u is the optimizer's direction: SGD with momentum=0.4 gives the published direction;
        2. if the loss at mu is not finite, the step is 0; the code stays at mu;
        3. if the run clips its gradient, b is the slope of the clipped gradient.
    Cost:
        one forward pass per step, about a third of a training step

    Args:
        mu: Length of the trial step; 0.1 to 1.
        max_step: The longest step.
        kappa: Factor of the step to the minimum, 1.2 to 1.7.

    Raises:
        ValueError: An argument is out of range.

    >>> from meta_lr.methods.autolr.pal import step_length
    >>> [round(step_length(b, a, mu=1.0, max_step=3.16, kappa=1.5), 4)
    ...  for b, a in ((-1, 0.5), (-1, 0.1), (-1, -0.1), (1, 0.5))]
    [1.5, 3.16, 1.0, 0.0]
    """

    mu: float = 1.0
    max_step: float = 3.16
    kappa: float = 1 / 0.6
    needs = Need.LOSS | Need.PARAMS | Need.GRADS | Need.DIRECTION | Need.TRIALS

    def __post_init__(self) -> None:
        refuse_not_positive(self, "mu", "max_step", "kappa")

    def __call__(self, view: StepView, state: NoState) -> tuple[float, NoState]:
        """Return the learning rate of this step, and the state."""
        ahead = line(view)
        length = ahead.norm()
        if length == 0.0:
            return 0.0, state
        b = -float(dot(view.grads, ahead.step)) / length
        rise = ahead.loss(self.mu / length, None) - view.loss_item()
        a = (rise - b * self.mu) / self.mu**2
        return step_length(b, a, self.mu, self.max_step, self.kappa) / length, state


def step_length(b: float, a: float, mu: float, max_step: float, kappa: float) -> float:
    """Return the step length along a unit direction, given the parabola a s^2 + b s."""
    if not (b < 0 and math.isfinite(b) and math.isfinite(a)):
        return 0.0
    return min(kappa * -b / (2 * a) if a > 0 else mu, max_step)
