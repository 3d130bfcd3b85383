"""Episodes: unfinished inner problems, and the estimators that continue them by one window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from meta_lr.bilevel.baseline import Curve
from meta_lr.bilevel.look_ahead import Point
from meta_lr.bilevel.objectives import Objective
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.schedules import Schedule

WORST = 3.0  # nats above the baseline: the score of a loss that is not finite


class Episode(NamedTuple):
    """An unfinished inner problem, with one copy per perturbation of phi."""

    problem: Problem
    curve: Curve  # the baseline's
    step: int  # inner steps taken
    point: Point
    drift: Tensor  # (pairs, size of phi): the sum of the perturbations so far

    def weights(self, objective: Objective, steps: int) -> tuple[float, ...]:
        """Return the weights of the next window: `steps` steps, or the rest of the run."""
        left = self.problem.total_steps - self.step
        return objective(self.step, min(steps, left), ends=steps >= left)


class Windowed(NamedTuple):
    """The result of one window of an episode."""

    score: float  # mean over all copies, in nats above the baseline
    grad: Tensor  # (size of phi,)
    episode: Episode  # after the window
    cost: float  # in plain training steps


class WindowEstimator(Protocol):
    """Begins episodes and continues them window by window, with an estimate of the gradient."""

    @property
    def reads_baseline(self) -> bool:
        """Whether the gradient depends on the baseline's curve."""
        ...

    def begin(self, problem: Problem, curve: Curve, learner: Schedule, size: int) -> Episode:
        """Return a new episode at step 0; phi has `size` numbers."""
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
        """Take one inner step per weight, and estimate the gradient with respect to phi.

        Args:
            episode: The present point of the inner problem.
            learner: The schedule; its meta-parameters are replaced by phi.
            phi: The present meta-parameters.
            weights: Weights of the scores after each step of the window.
            seed: Seed of the random numbers of the estimate.
        """
        ...
