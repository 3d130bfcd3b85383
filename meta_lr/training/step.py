"""One training step in place, in three parts: the gradient, the learning rate, the update."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from meta_lr import protocol
from meta_lr.optim import rules
from meta_lr.processes import mean_over_processes, means_over_processes
from meta_lr.protocol import Average, Controller, HostLoss, StepView

if TYPE_CHECKING:
    from meta_lr.training.sandbox import Sandbox


def gradient(
    optimizer: Optimizer,
    losses: Iterable[Tensor],
    clip: float | None,
    scaler: GradScaler | None = None,
    *,
    shared: bool = False,
) -> Tensor:
    """Store the gradient of a sum of losses () in the parameters; return the sum without its graph.

    The losses are taken one after the other, each after the backward pass of the one before. The
    norm of the unscaled gradient is clipped to `clip`. If `shared`, sum and gradient are averaged
    over the processes.
    """
    optimizer.zero_grad()
    taken: list[Tensor] = []
    for loss in losses:
        (loss if scaler is None else scaler.scale(loss)).backward()
        taken.append(loss.detach())
    total = reduce(add, taken)
    if shared:
        total = mean_over_processes(total)
        _average_gradients(optimizer)
    if scaler is not None:
        scaler.unscale_(optimizer)
    if clip is not None:
        nn.utils.clip_grad_norm_(protocol.params_of(optimizer), clip)
    return total


def _average_gradients(optimizer: Optimizer) -> None:
    grads = [p.grad for p in protocol.params_of(optimizer) if p.grad is not None]
    for grad, mean in zip(grads, means_over_processes(grads), strict=True):
        grad.copy_(mean)


def ask(
    controller: Controller,
    state: Any,
    optimizer: Optimizer,
    step: int,
    *,
    scales: Sequence[float],
    loss: Tensor | HostLoss | None,
    params: Sequence[Tensor],
    total_steps: int,
    steps_per_epoch: int,
    sandbox: Sandbox | None,
) -> tuple[float, Average | None, Any]:
    """Call the controller for the learning rate, and write it into the optimizer's groups.

    Returns the learning rate of the first group, the average to restart from after the step, and
    the controller's next state. `scales` holds the factor of each group, `params` is empty if the
    controller reads no tensors, and the rest is as in `StepView`.

    Raises:
        ValueError: The learning rate is negative, infinite or not a number.
    """
    if sandbox is not None:
        sandbox.at(step)
    view = StepView(
        controller,
        step,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        loss=loss,
        params=params,
        grads=rules.gradients(params),
        direction=lambda: rules.direction(optimizer),
        sandbox=sandbox,
        scales=lambda: [scale for _, scale in protocol.groups_of_params(optimizer)],
    )
    with torch.no_grad(), nullcontext() if sandbox is None else sandbox.timed():
        rate, state = controller(view, state)
    average = rate if isinstance(rate, Average) else None
    lr = float(protocol.lr_of(rate))
    protocol.check_rate(controller, step, lr)
    protocol.set_rate(optimizer, lr, scales)
    return lr, average, state


def update(
    optimizer: Optimizer, average: Average | None = None, scaler: GradScaler | None = None
) -> None:
    """Take the optimizer step, then restart from an average if there is one."""
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    if average is not None:
        protocol.apply_average(protocol.params_of(optimizer), average)
