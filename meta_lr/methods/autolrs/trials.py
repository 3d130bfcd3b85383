"""AutoLRS's trials: a few steps at one rate on a private copy, and what is seen on the way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from meta_lr.methods.autolrs.stages import Stage

if TYPE_CHECKING:
    from meta_lr.training.sandbox import Sandbox, Trial

_HUGE = 1e10  # a loss beyond it is as good as none
_START = 4  # batches by which the loss at the start is known
_RECENT = 3  # losses of a trial whose mean is compared with it


class Seen(NamedTuple):
    """What a trial saw.

    Attributes:
        losses: Of training or validation, as the stage has it: of its last tau' steps, or of all
            its validations.
        after: Losses of the same kind after its last step, on one batch each.
        num_steps: That the trial took.
        failed: Whether a loss was no number, or huge, or far above the start.
        start: Fingerprint of where it began.
    """

    losses: Sequence[float] = ()
    after: Sequence[float] = ()
    num_steps: int = 0
    failed: bool = False
    start: str = ""


def observe(
    trial: Trial,
    stage: Stage,
    rates: Sequence[float],
    *,
    limit: float | None,
    val_batches: int,
    after: int,
) -> Seen:
    """Take a step at each of the rates; with a limit, stop as soon as the trial has failed.

    Args:
        trial: At the start of a stage.
        stage: Says which losses to read, and how often.
        rates: Of the trial's steps.
        limit: Above which the mean of the last three training losses is a failure; None lets a
            trial take all its steps.
        val_batches: Of a validation loss.
        after: Batches on which to read the loss after the last step; if there are any, validation
            losses are read then alone.
    """
    start = trial.fingerprint()
    seen, recent, taken, failed = list[float](), list[float](), 0, False
    for taken, rate in enumerate(rates, start=1):
        loss = float(trial.step(rate))
        recent = [*recent[1 - _RECENT :], loss]
        if not stage.period:
            seen.append(loss)
        elif not after and stage.validates(taken, len(seen)):
            seen.append(trial.val_loss(val_batches, drawn=True))
        failed = limit is not None and not _fine(recent, limit)
        if failed:
            break
    ended = [] if failed else _ended(trial, stage, after)
    seen = seen[-stage.trial :]  # the first trial of a run may take one step more
    fine = not failed and all(abs(loss) < _HUGE for loss in (*seen, *ended))
    return Seen(seen, ended, taken, not fine, start)


class Start(NamedTuple):
    """The training loss where a stage begins: mean and standard deviation over four batches."""

    mean: float
    spread: float

    def limit(self, above: float, first: float) -> float:
        """Return the loss that is `above` times the mean higher than it, or `first` if larger.

        Where the mean is near zero, the spread takes its place.

        Args:
            above: How many times.
            first: The mean where the first stage began, which a network that learned is far below,
                on hard batches too.
        """
        return max(self.mean + above * max(abs(self.mean), self.spread), first)


def start_of(sandbox: Sandbox) -> Start:
    """Return the training loss at present."""
    with sandbox.trial() as trial:
        losses = torch.tensor(trial.train_losses(_START), dtype=torch.float64)
    return Start(float(losses.mean()), float(losses.std()))


def _ended(trial: Trial, stage: Stage, count: int) -> list[float]:
    if stage.period:
        return [trial.val_loss(1, drawn=True, first=index) for index in range(count)]
    return trial.train_losses(count)


def _fine(recent: Iterable[float], limit: float) -> bool:
    losses = list(recent)
    return all(abs(loss) < _HUGE for loss in losses) and math.fsum(losses) <= limit * len(losses)
