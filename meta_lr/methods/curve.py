"""The learning rates of a controller over a run, computed without training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from meta_lr.protocol import (
    Controller,
    HostLoss,
    Need,
    StepView,
    check_rate,
    lr_of,
    need_names,
)

CLOCK = Need.HORIZON | Need.EPOCHS  # what is known without a run


def learning_rates(
    controller: Controller,
    total_steps: int,
    *,
    losses: Sequence[float] | None = None,
    steps_per_epoch: int = 0,
) -> list[float]:
    """Return the learning rate of each step, for a plot or a table.

    Args:
        controller: A controller that reads only the clock, and the loss if `losses` are given.
        total_steps: Length of the run, in optimizer steps.
        losses: The loss of each step.
        steps_per_epoch: Optimizer steps in one pass over the training data, for a controller that
            counts epochs.

    Raises:
        ValueError: The controller reads something else, such as gradients, or the losses do not
            fit the run.

    >>> from meta_lr import Cosine
    >>> [round(lr, 3) for lr in learning_rates(Cosine(0.1), 4)]
    [0.1, 0.085, 0.05, 0.015]
    """
    known = CLOCK if steps_per_epoch else Need.HORIZON
    _refuse(controller, total_steps, known, losses)
    state, found = controller.init(), []
    with torch.no_grad():
        for step in range(total_steps):
            view = StepView(
                controller,
                step,
                total_steps=total_steps,
                steps_per_epoch=steps_per_epoch,
                loss=None if losses is None else HostLoss(losses[step], torch.float32),
            )
            rate, state = controller(view, state)
            found.append(check_rate(controller, step, float(lr_of(rate))))
    return found


def _refuse(
    controller: Controller, total_steps: int, known: Need, losses: Sequence[float] | None
) -> None:
    lacking = controller.needs & ~(known if losses is None else known | Need.LOSS)
    if lacking == Need.EPOCHS:
        raise ValueError(f"{type(controller).__name__} counts epochs; pass steps_per_epoch")
    if lacking == Need.LOSS:
        raise ValueError(f"{type(controller).__name__} reads the loss; pass losses, one per step")
    if lacking:
        raise ValueError(
            f"{type(controller).__name__} reads {need_names(lacking)}, which only a run has; train "
            "with it, and read the learning rates from the run's record"
        )
    if losses is not None and len(losses) != total_steps:
        raise ValueError(f"{len(losses)} losses for {total_steps} steps; pass one per step")
