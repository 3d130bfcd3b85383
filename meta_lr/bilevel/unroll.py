"""How the inner problem advances: differentiable training steps, through `higher`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import higher
import torch
from higher.optim import DifferentiableOptimizer
from torch import Tensor

from meta_lr import rules, vectors
from meta_lr.protocol import Average, Controller, StepView, group_scales
from meta_lr.training.sandbox import HVP, Trial


class _RuleOptimizer(DifferentiableOptimizer):
    """The optimizers of `meta_lr.rules` in `higher`'s frame.

    `higher`'s own Adam differs from torch's in the place of epsilon, AdamW is missing, and options
    such as `maximize` are ignored; these rules equal torch's bit for bit.
    """

    rule: rules.Rule

    def _update(self, grouped_grads: Sequence[Sequence[Tensor | None]], **_: object) -> None:
        for group, states, grads in zip(self.param_groups, self.state, grouped_grads, strict=True):
            for i, (p, g) in enumerate(zip(group["params"], grads, strict=True)):
                if g is not None:
                    d, states[i] = type(self).rule(p, g, states[i], group)
                    group["params"][i] = d.apply(p, group["lr"])


for _kind, _rule in rules.RULES.items():
    _class = type(
        f"Differentiable{_kind.__name__}", (_RuleOptimizer,), {"rule": staticmethod(_rule)}
    )
    higher.register_optim(_kind, _class)  # pyright: ignore[reportArgumentType] - higher annotates an instance where it takes the class


def unroll(trial: Trial, controller: Controller, state: Any, view: StepView, steps: int) -> Tensor:
    """Train the trial's model for `steps` steps and return the meta loss () at their end.

    The first step repeats the run's own (same batch, same dropout mask), the others take fresh
    training batches. The controller is asked as in the run, with a view that carries the graph, so
    the result is differentiable in the controller's weights through rates, losses, optimizer state
    and the controller's memory; nothing is detached.

    Raises:
        ValueError: The optimizer, or an option of it, has no exact differentiable rule.
    """
    rules.refuse_unsupported(trial.optimizer)
    rule = rules.RULES[type(trial.optimizer)]
    scales = group_scales(trial.sandbox.optimizer)
    with higher.innerloop_ctx(trial.model, trial.optimizer) as (model, optimizer):
        for k in range(steps):
            loss = trial.loss(model, k - 1 if k else None)
            if k:  # later steps are differentiated twice
                trial.sandbox.cost += HVP

            def rated(grads: Sequence[Tensor], k: int = k, loss: Tensor = loss) -> list[Tensor]:
                nonlocal state
                grads = _clipped(grads, trial.sandbox.clip)
                params = _ordered(optimizer, list(model.parameters()))
                ordered = [
                    torch.zeros_like(p) if g is None else g
                    for p, g in zip(params, _ordered(optimizer, grads), strict=True)
                ]
                there = view.later(
                    controller,
                    k,
                    loss=loss,
                    params=params,
                    grads=ordered,
                    direction=lambda: _direction(rule, optimizer, params, ordered),
                )
                rate, state = controller(there, state)
                if isinstance(rate, Average):
                    raise ValueError(f"{type(controller).__name__} averages weights; not unrolled")
                for group, scale in zip(optimizer.param_groups, scales, strict=True):
                    group["lr"] = rate * scale
                return grads

            optimizer.step(loss, grad_callback=rated)
        return trial.sandbox.loss_of(model, "meta", 0)


def _ordered(optimizer: DifferentiableOptimizer, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return what is in the model's order in the optimizer's group order."""
    return [tensors[i] for indices in optimizer._group_to_param_list for i in indices]


def _clipped(grads: Sequence[Tensor], largest: float | None) -> list[Tensor]:
    """Return the gradients scaled as `torch.nn.utils.clip_grad_norm_` does; differentiable."""
    present = [g for g in grads if g is not None]
    if largest is None or not present:
        return list(grads)
    factor = torch.clamp(largest / (vectors.norm(present) + 1e-6), max=1.0)
    return [g if g is None else g * factor for g in grads]


def _direction(
    rule: rules.Rule,
    optimizer: DifferentiableOptimizer,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
) -> list[Tensor]:
    """Return the direction at this point of the unroll."""
    slots: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
        (states[i], group)
        for group, states in zip(optimizer.param_groups, optimizer.state, strict=True)
        for i in range(len(group["params"]))
    ]
    return [
        torch.zeros_like(p) if g is None else rule(p, g, state, group)[0].value(p)
        for p, g, (state, group) in zip(params, grads, slots, strict=True)
    ]
