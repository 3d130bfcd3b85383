"""An inner problem on its way, and what takes it on by a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from meta_lr.bilevel.baseline import Curve
from meta_lr.bilevel.copies import Schedule
from meta_lr.bilevel.look_ahead import Point
from meta_lr.bilevel.objectives import Objective
from meta_lr.bilevel.problems import Problem

WORST = 3.0  # nats above the baseline: what a loss that is not finite counts as


class Episode(NamedTuple):
    """An inner problem on its way, with one copy per perturbation of phi."""

    problem: Problem
    curve: Curve  # the baseline's
    step: int  # inner steps taken
    point: Point
    drift: Tensor  # (pairs, size of phi): the sum of the perturbations so far

    def weights(self, objective: Objective, steps: int) -> tuple[float, ...]:
        """Return the weights of the next window: of `steps` steps, or what is left of the run."""
        left = self.problem.total_steps - self.step
        return objective(self.step, min(steps, left), ends=steps >= left)


class Windowed(NamedTuple):
    """What one window of an episode gives."""

    score: float  # mean over all copies, in nats above the baseline
    grad: Tensor  # (size of phi,)
    episode: Episode  # after the window
    cost: float  # in plain training steps


class WindowEstimator(Protocol):
    """Begins episodes and takes them on, window by window, with an estimate of the gradient."""

    @property
    def reads_baseline(self) -> bool:
        """Whether the gradient depends on the baseline's curve."""
        ...

    def begin(self, problem: Problem, curve: Curve, learner: Schedule, size: int) -> Episode:
        """Return an episode at its start."""
        ...

    def window(
        self,
        episode: Episode,
        learner: Schedule,
        phi: tuple[Tensor, ...],
        weights: Sequence[float],
        *,
        seed: int,
    ) -> Windowed:
        """Go on by one inner step per weight, and estimate the gradient in phi.

        Args:
            episode: Where the inner problem stands.
            learner: The schedule; its weights are replaced by phi.
            phi: The present weights.
            weights: Of the scores after each step of the window.
            seed: Of what the estimate draws.
        """
        ...
