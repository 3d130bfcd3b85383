"""The unrolled inner loop: differentiable training steps, through `higher`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from meta_lr.bilevel.look_ahead import Point, ask, clipped
from meta_lr.extras import explained
from meta_lr.optim import rules
from meta_lr.protocol import Controller, StepView, group_scales
from meta_lr.training.sandbox import HVP, Trial

with explained():
    import higher
    from higher.optim import DifferentiableOptimizer


class _RuleOptimizer(DifferentiableOptimizer):
    """The optimizers of `meta_lr.optim.rules` as optimizers of `higher`.

    `higher`'s own Adam adds epsilon at another place than torch's. `higher` also has no AdamW, and
    it ignores options such as `maximize`. The rules used here equal torch's bit for bit.
    """

    rule: rules.Rule
    lrs: Callable[[rules.PureStep], Sequence[float | Tensor]]  # returns the lr of each group

    def _update(self, grouped_grads: Sequence[Sequence[Tensor | None]], **_: object) -> None:
        places = [
            (group, states, i)
            for group, states in zip(self.param_groups, self.state, strict=True)
            for i in range(len(group["params"]))
        ]
        step = rules.PureStep(
            type(self).rule,
            [group["params"][i] for group, _, i in places],
            [g for grads in grouped_grads for g in grads],
            [states[i] for _, states, i in places],
            [group for group, _, _ in places],
        )
        for group, lr in zip(self.param_groups, self.lrs(step), strict=True):
            group["lr"] = lr
        moved = step.take([group["lr"] for group in step.groups])
        for (group, states, i), p, slot in zip(places, *moved, strict=True):
            group["params"][i], states[i] = p, slot


for _kind, _rule in rules.RULES.items():
    _class = type(
        f"Differentiable{_kind.__name__}", (_RuleOptimizer,), {"rule": staticmethod(_rule)}
    )
    higher.register_optim(_kind, _class)  # pyright: ignore[reportArgumentType] - higher annotates an instance where it takes the class


def unroll(
    trial: Trial, controller: Controller, state: Any, view: StepView, weights: Sequence[float]
) -> Tensor:
    """Train the trial's model for some steps; return the weighted meta losses () after each step.

    The first step repeats the run's own (same batch, same dropout mask). The other steps take new
    training batches. The controller is called as in the run, with a view that keeps the graph. The
    result is therefore differentiable in the controller's weights, through learning rates, losses,
    optimizer state and the controller's memory. Nothing is detached.

    Raises:
        ValueError: The optimizer, or an option of it, has no exact differentiable rule.
    """

    def score(model: nn.Module, taken: int) -> Tensor:
        return trial.sandbox.loss_of(model, "meta", len(weights) - taken)

    return unrolled(trial, controller, state, view, weights, score)[0]


def unrolled(
    trial: Trial,
    controller: Controller,
    state: Any,
    view: StepView,
    weights: Sequence[float],
    score: Callable[[nn.Module, int], Tensor],
) -> tuple[Tensor, Point]:
    """Return the weighted scores () after each step, as in `unroll`, and the end point.

    Args:
        trial: A copy of the run.
        controller: Gives the learning rates.
        state: The controller's state.
        view: View of the run's present step.
        weights: Weights of the scores, one per step.
        score: Returns the score () of the model after a number of steps.
    """
    rules.refuse_unsupported(trial.optimizer)
    scales = group_scales(trial.sandbox.optimizer)
    clip, total = partial(clipped, largest=trial.sandbox.clip), torch.zeros(())
    with higher.innerloop_ctx(trial.model, trial.optimizer) as (model, optimizer):
        assert isinstance(optimizer, _RuleOptimizer)
        for k, weight in enumerate(weights):
            loss = trial.loss(model, k - 1 if k else None)
            if k:  # later steps are differentiated twice
                trial.sandbox.cost += HVP

            def lrs(step: rules.PureStep, k: int = k, loss: Tensor = loss) -> list[float | Tensor]:
                nonlocal state
                lr, state = ask(controller, view, k, loss, step, state)
                return [lr * scale for scale in scales]

            optimizer.lrs = lrs
            optimizer.step(loss, grad_callback=clip)  # pyright: ignore[reportArgumentType] - higher passes None for a parameter without a gradient
            if weight:
                total = total + weight * score(model, k + 1)
        return total, _end(model, optimizer, state)


def _end(model: nn.Module, optimizer: _RuleOptimizer, state: Any) -> Point:
    """Return the point after the last step."""
    places = [
        (p, states[i])
        for group, states in zip(optimizer.param_groups, optimizer.state, strict=True)
        for i, p in enumerate(group["params"])
    ]
    params, slots = zip(*places, strict=True)
    return Point(params, tuple(dict(slot) for slot in slots), dict(model.named_buffers()), state)
