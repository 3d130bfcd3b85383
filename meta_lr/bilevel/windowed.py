"""The meta-gradient of a window by walking it back: truncated back-propagation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meta_lr.bilevel.adjoint import adjoint
from meta_lr.bilevel.baseline import Curve
from meta_lr.bilevel.copies import Schedule
from meta_lr.bilevel.episodes import Episode, Windowed
from meta_lr.bilevel.look_ahead import LookAhead, Point, Reads
from meta_lr.bilevel.problems import Problem
from meta_lr.protocol import Need, StepView
from meta_lr.schedulers.learned import Learned
from meta_lr.tasks.base import Batch, Split
from meta_lr.training.sandbox import Sandbox


@dataclass(frozen=True)
class TruncatedBackprop:
    """Exact back-propagation within each window; what came before it is held constant.

    Update:
        grad = d/dphi of the window's objective, from where the episode stands
    Reference:
        truncated back-propagation through time; its bias towards small rates for short windows:
        Wu, Ren, Liao & Grosse (2018), arXiv 1803.02021
    Deviations:
        none
    Cost:
        4 plain steps per inner step, 2 without second derivatives, and 1 per meta loss

    Args:
        second_order: False leaves out the Hessians, an approximation.
    """

    second_order: bool = True

    @property
    def reads_baseline(self) -> bool:
        """Whether episodes need the baseline's curve."""
        return True

    def begin(self, problem: Problem, curve: Curve, learner: Schedule, size: int) -> Episode:
        """Return an episode at its start."""
        learner = _learned(learner)
        start = LookAhead(learner, _view(problem, learner, 0)).start(learner.init())
        return Episode(problem, curve, 0, start, torch.zeros(0, size))

    def window(
        self,
        episode: Episode,
        learner: Schedule,
        phi: tuple[Tensor, ...],
        weights: Sequence[float],
        *,
        seed: int,
    ) -> Windowed:
        """Go on by one inner step per weight, and compute the gradient in phi."""
        learner, steps = _learned(learner), len(weights)
        phi = tuple(weight.detach().requires_grad_() for weight in phi)
        view = _view(episode.problem, learner, episode.step)
        run = _Scored(replace(learner, stages=(phi,)), view, episode, steps)
        with torch.enable_grad():
            score, grads, end = adjoint(
                run, episode.point, phi, weights, second_order=self.second_order
            )
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        after = episode._replace(step=episode.step + steps, point=end)
        return Windowed(score, flat, after, view.sandbox.cost)


def _learned(schedule: Schedule) -> Learned:
    if not isinstance(schedule, Learned):
        raise ValueError(
            f"estimator=truncated differentiates Learned, and the schedule is "
            f"{type(schedule).__name__}; choose estimator=es"
        )
    return schedule


class _Scored(LookAhead):
    """A window whose meta losses are in nats above the baseline."""

    def __init__(self, learner: Learned, view: StepView, episode: Episode, steps: int) -> None:
        super().__init__(learner, view)
        self._episode, self._steps = episode, steps

    def score(self, point: Point, left: int) -> Tensor:
        taken = self._steps - left
        return self.meta_loss(point, taken).log() - self._episode.curve.at(
            self._episode.step + taken
        )


def _view(problem: Problem, learner: Learned, step: int) -> StepView:
    """Return the view of an inner step that has not been taken."""
    task, model = problem.task, problem.task.model().train()

    def batch(split: Split, index: int, draw: int | None) -> Batch:
        ahead = 0 if draw is None else draw + 1 if split == "train" else draw
        return task.batch(split, index + ahead)

    optimizer = problem.make_optimizer(list(model.parameters()))
    sandbox = Sandbox(model, optimizer, task.loss, batch, seed=0)
    sandbox.at(step)
    return StepView(
        Reads(learner.needs | Need.META),
        step,
        total_steps=problem.total_steps,
        loss=torch.tensor(math.nan),
        sandbox=sandbox,
    )
