"""The hypergradient of a window by truncated back-propagation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from meta_lr.bilevel.adjoint import adjoint
from meta_lr.bilevel.baseline import Curve
from meta_lr.bilevel.episodes import Episode, Windowed
from meta_lr.bilevel.look_ahead import LookAhead, Point, Reads, detached
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.schedules import Schedule, differentiable
from meta_lr.protocol import Controller, Need, StepView, groups_of_params, params_of
from meta_lr.tasks.base import Batch, Split
from meta_lr.training.sandbox import Sandbox
from meta_lr.vectors import Tensors


class NextWindow(NamedTuple):
    """The next steps of an episode."""

    episode: Episode  # the present point of the inner problem
    controller: Controller  # the schedule with phi as its meta-parameters
    view: StepView  # of the window's first step
    phi: Tensors  # the meta-parameters to differentiate
    weights: Sequence[float]  # of the scores after each step


Walked = tuple[float, Sequence[Tensor], Point]


class Truncated(ABC):
    """The exact gradient within each window; everything before the window is held constant."""

    @property
    def reads_baseline(self) -> bool:
        """Whether episodes need the baseline's curve."""
        return True

    def begin(self, problem: Problem, curve: Curve, learner: Schedule, size: int) -> Episode:
        """Return a new episode at step 0, with the state of one run."""
        controller = differentiable(learner)
        nowhere = Episode(problem, curve, 0, Point((), (), {}, ()), torch.zeros(0, size))
        start = LookAhead(controller, waiting(nowhere, controller)).start(controller.init())
        return nowhere._replace(point=start)

    def window(
        self,
        episode: Episode,
        learner: Schedule,
        phi: tuple[Tensor, ...],
        weights: Sequence[float],
        *,
        seed: int,
    ) -> Windowed:
        """Take one inner step per weight, and compute the gradient with respect to phi."""
        phi = tuple(weight.detach().requires_grad_() for weight in phi)
        controller = differentiable(learner, phi)
        view = waiting(episode, controller)
        with torch.enable_grad():
            score, grads, end = self.walked(NextWindow(episode, controller, view, phi, weights))
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        after = episode._replace(step=episode.step + len(weights), point=end)
        return Windowed(score, flat, after, view.sandbox.cost)

    @abstractmethod
    def walked(self, window: NextWindow) -> Walked:
        """Return the weighted score of a window, its gradient in phi, and its end point."""
        ...


@dataclass(frozen=True)
class TruncatedBackprop(Truncated):
    """Exact back-propagation within each window, with the graph of one step at a time.

    Update:
        grad = d/dphi of the window's objective, from the episode's present point
    Reference:
        truncated back-propagation through time. With short windows it is biased towards small
        learning rates: Wu, Ren, Liao & Grosse (2018), arXiv 1803.02021
    Deviations:
        none
    Cost:
        4 plain steps per inner step, 2 without second derivatives, and 1 per meta loss

    Args:
        second_order: False leaves out the Hessians, an approximation.
    """

    second_order: bool = True

    def walked(self, window: NextWindow) -> Walked:
        """Run the window forward, then differentiate it from the last step to the first."""
        run, start = _Scored(window), window.episode.point
        return adjoint(run, start, window.phi, window.weights, second_order=self.second_order)


@dataclass(frozen=True)
class TruncatedUnroll(Truncated):
    """The same gradient as `TruncatedBackprop`, through the unrolled inner loop of MLR-SNet.

    Update:
        grad = d/dphi of the window's objective, from the episode's present point
    Reference:
        Grefenstette et al. (2019), arXiv 1910.01727: `higher`; Shu et al. (2020), arXiv 2007.14546
    Deviations:
        windows of several steps; MLR-SNet unrolls one
    Cost:
        4 plain steps per inner step and 1 per meta loss; memory for the graphs of all steps
    """

    def walked(self, window: NextWindow) -> Walked:
        """Unroll the window with all its graphs, and differentiate it as a whole."""
        from meta_lr.bilevel.unroll import unrolled  # `higher` is loaded only when it is used

        (episode, controller, view, phi, weights), sandbox = window, window.view.sandbox
        _place(sandbox, episode.point)

        def score(model: nn.Module, taken: int) -> Tensor:
            return nats(episode, sandbox.loss_of(model, "meta", taken), taken)

        with sandbox.trial() as trial:
            total, end = unrolled(trial, controller, episode.point.state, view, weights, score)
            return total.item(), _slopes(total, phi), detached(end)


class _Scored(LookAhead):
    """A window whose meta losses are in nats above the baseline."""

    def __init__(self, window: NextWindow) -> None:
        super().__init__(window.controller, window.view)
        self._episode, self._steps = window.episode, len(window.weights)

    def score(self, point: Point, left: int) -> Tensor:
        taken = self._steps - left
        return nats(self._episode, self.meta_loss(point, taken), taken)


def nats(episode: Episode, meta_loss: Tensor, taken: int) -> Tensor:
    """Return a meta loss () in nats above the baseline, `taken` steps into a window."""
    return meta_loss.log() - episode.curve.at(episode.step + taken)


def waiting(episode: Episode, controller: Controller) -> StepView:
    """Return the view of an episode's next step, before that step is taken.

    The model and the optimizer of its sandbox are in the initial state of the problem.
    """
    task, model = episode.problem.task, episode.problem.task.model().train()

    def batch(split: Split, index: int, draw: int | None) -> Batch:
        ahead = 0 if draw is None else draw + 1 if split == "train" else draw
        return task.batch(split, index + ahead)

    optimizer = episode.problem.make_optimizer(list(model.parameters()))
    sandbox = Sandbox(model, optimizer, task.loss, batch, seed=0)
    sandbox.at(episode.step)
    return StepView(
        Reads(controller.needs | Need.META),
        episode.step,
        total_steps=episode.problem.total_steps,
        loss=torch.tensor(math.nan),
        sandbox=sandbox,
        scales=lambda: [scale for _, scale in groups_of_params(optimizer)],
    )


def _place(sandbox: Sandbox, point: Point) -> None:
    """Set the sandbox's model and optimizer to a point."""
    with torch.no_grad():
        for p, value, slot in zip(
            params_of(sandbox.optimizer), point.params, point.slots, strict=True
        ):
            p.copy_(value)
            sandbox.optimizer.state[p] = dict(slot)
        for name, buffer in sandbox.model.named_buffers():
            buffer.copy_(point.buffers[name])


def _slopes(total: Tensor, phi: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the gradient in phi; it is zero if no step is scored or no step depends on phi."""
    if not total.requires_grad:
        return tuple(torch.zeros_like(weight) for weight in phi)
    return torch.autograd.grad(total, phi, allow_unused=True, materialize_grads=True)
