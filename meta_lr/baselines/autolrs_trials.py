"""AutoLRS's trials: a few steps at one rate on a private copy, and what is seen on the way."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import torch

from meta_lr.baselines.autolrs_stages import Stage

if TYPE_CHECKING:
    from meta_lr.training.sandbox import Sandbox, Trial

_HUGE = 1e10  # a loss beyond it is as good as none
_START = 4  # batches by which the loss at the start is known
_RECENT = 3  # losses of a trial whose mean is compared with it


class Seen(NamedTuple):
    """What a trial saw.

    Attributes:
        steps: The trial's steps after which a loss was seen.
        losses: Of training or validation, as the stage has it.
        num_steps: That the trial took.
        failed: Whether a loss was no number, or huge, or far above the start.
    """

    steps: list[int]
    losses: list[float]
    num_steps: int
    failed: bool


def observe(
    trial: Trial, stage: Stage, rates: Iterable[float], *, limit: float | None, val_batches: int
) -> Seen:
    """Take a step at each of the rates; with a limit, stop as soon as the trial has failed.

    Args:
        trial: At the start of a stage.
        stage: Says which losses to read, and how often.
        rates: Of the trial's steps.
        limit: Above which the mean of the last three training losses is a failure; None lets a
            trial take all its steps.
        val_batches: Of a validation loss.
    """
    seen, recent, taken, failed = list[tuple[int, float]](), list[float](), 0, False
    for taken, rate in enumerate(rates, start=1):
        loss = float(trial.step(rate))
        recent = [*recent[1 - _RECENT :], loss]
        if not stage.period:
            seen.append((taken - 1, loss))  # it is the loss before the step
        elif taken % stage.period == 0:
            seen.append((taken, trial.val_loss(val_batches, drawn=True)))
        failed = limit is not None and not _fine(recent, limit)
        if failed:
            break
    steps, losses = [step for step, _ in seen], [loss for _, loss in seen]
    return Seen(steps, losses, taken, failed or not all(abs(loss) < _HUGE for loss in losses))


def limit_at(sandbox: Sandbox, above: float) -> float:
    """Return the loss that is `above` times the present one higher than it.

    That is the mean over four fresh batches; where it is near zero, their spread takes its place.
    """
    with sandbox.trial() as trial:
        losses = [float(trial.loss(trial.model, draw)) for draw in range(_START)]
    mean = math.fsum(losses) / _START
    spread = float(torch.tensor(losses, dtype=torch.float64).std())
    return mean + above * max(abs(mean), spread)


def _fine(recent: list[float], limit: float) -> bool:
    return all(abs(loss) < _HUGE for loss in recent) and math.fsum(recent) <= limit * len(recent)
