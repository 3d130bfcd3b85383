"""How the inner problem advances: differentiable training steps, through `higher`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import higher
import torch
from higher.optim import DifferentiableOptimizer
from torch import Tensor

from meta_lr import rules
from meta_lr.bilevel.look_ahead import ask, clipped
from meta_lr.protocol import Controller, StepView, group_scales
from meta_lr.training.sandbox import HVP, Trial

T = TypeVar("T")


class _RuleOptimizer(DifferentiableOptimizer):
    """The optimizers of `meta_lr.rules` in `higher`'s frame.

    `higher`'s own Adam differs from torch's in the place of epsilon, AdamW is missing, and options
    such as `maximize` are ignored; these rules equal torch's bit for bit.
    """

    rule: rules.Rule

    def _update(self, grouped_grads: Sequence[Sequence[Tensor | None]], **_: object) -> None:
        for group, states, grads in zip(self.param_groups, self.state, grouped_grads, strict=True):
            n, own = len(grads), [states[i] for i in range(len(grads))]
            step = rules.PureStep(type(self).rule, group["params"], grads, own, [group] * n)
            group["params"], new = step.take([group["lr"]] * n)
            states.update(enumerate(new))


for _kind, _rule in rules.RULES.items():
    _class = type(
        f"Differentiable{_kind.__name__}", (_RuleOptimizer,), {"rule": staticmethod(_rule)}
    )
    higher.register_optim(_kind, _class)  # pyright: ignore[reportArgumentType] - higher annotates an instance where it takes the class


def unroll(
    trial: Trial, controller: Controller, state: Any, view: StepView, weights: Sequence[float]
) -> Tensor:
    """Train the trial's model for some steps; return the weighted meta losses () after each.

    The first step repeats the run's own (same batch, same dropout mask), the others take fresh
    training batches. The controller is asked as in the run, with a view that carries the graph, so
    the result is differentiable in the controller's weights through rates, losses, optimizer state
    and the controller's memory; nothing is detached.

    Raises:
        ValueError: The optimizer, or an option of it, has no exact differentiable rule.
    """
    rule = rules.rule_of(trial.optimizer)
    scales, total = group_scales(trial.sandbox.optimizer), torch.zeros(())
    with higher.innerloop_ctx(trial.model, trial.optimizer) as (model, optimizer):
        for k, weight in enumerate(weights):
            loss = trial.loss(model, k - 1 if k else None)
            if k:  # later steps are differentiated twice
                trial.sandbox.cost += HVP

            def rated(
                grads: Sequence[Tensor | None], k: int = k, loss: Tensor = loss
            ) -> list[Tensor | None]:
                nonlocal state
                grads = clipped(grads, trial.sandbox.clip)
                step = _step(rule, optimizer, list(model.parameters()), grads)
                lr, state = ask(controller, view, k, loss, step, state)
                for group, scale in zip(optimizer.param_groups, scales, strict=True):
                    group["lr"] = lr * scale
                return grads

            optimizer.step(loss, grad_callback=rated)  # pyright: ignore[reportArgumentType] - higher passes None for a parameter without a gradient
            if weight:
                left = len(weights) - 1 - k
                total = total + weight * trial.sandbox.loss_of(model, "meta", left)
        return total


def _ordered(optimizer: DifferentiableOptimizer, tensors: Sequence[T]) -> list[T]:
    """Return what is in the model's order in the optimizer's group order."""
    return [tensors[i] for indices in optimizer._group_to_param_list for i in indices]


def _step(
    rule: rules.Rule,
    optimizer: DifferentiableOptimizer,
    params: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> rules.PureStep:
    """Return the step that `higher` is about to take, of tensors in the model's order."""
    pairs = zip(optimizer.param_groups, optimizer.state, strict=True)
    states = [states[i] for group, states in pairs for i in range(len(group["params"]))]
    groups = [group for group in optimizer.param_groups for _ in group["params"]]
    ordered = _ordered(optimizer, params), _ordered(optimizer, grads)
    return rules.PureStep(rule, *ordered, states, groups)
