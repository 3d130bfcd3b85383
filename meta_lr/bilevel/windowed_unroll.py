"""The hypergradient of a window through `higher`, which keeps the graphs of all its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meta_lr.bilevel.episodes import Episode
from meta_lr.bilevel.look_ahead import Point, detached
from meta_lr.bilevel.windowed import Truncated, nats
from meta_lr.protocol import Controller, StepView, params_of
from meta_lr.training.sandbox import Sandbox


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

    def walked(
        self,
        episode: Episode,
        controller: Controller,
        view: StepView,
        phi: tuple[Tensor, ...],
        weights: Sequence[float],
    ) -> tuple[float, Sequence[Tensor], Point]:
        """Unroll the window with all its graphs, and differentiate it as a whole."""
        from meta_lr.bilevel.unroll import unrolled  # `higher` is loaded only when it is used

        sandbox = view.sandbox
        _place(sandbox, episode.point)

        def score(model: nn.Module, taken: int) -> Tensor:
            return nats(episode, sandbox.loss_of(model, "meta", taken), taken)

        with sandbox.trial() as trial:
            total, end = unrolled(trial, controller, episode.point.state, view, weights, score)
            return total.item(), _slopes(total, phi), detached(end)


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
