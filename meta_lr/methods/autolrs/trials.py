"""AutoLRS's trials: a few steps at one rate on a private copy, and what is seen of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from meta_lr.methods.autolrs.stages import Stage

if TYPE_CHECKING:
    from meta_lr.training.sandbox import Trial

_HUGE = 1e10  # a loss from here on is a failure; in our version, if also so many times the first
_RECENT = 3  # losses of a trial whose mean is compared with the limit


class Seen(NamedTuple):
    """What a trial saw."""

    losses: Sequence[float] = ()  # by which it is judged; none if it was stopped
    num_steps: int = 0  # that it took
    failed: bool = False  # a loss was not a number, or huge, or above the limit
    start: str = ""  # fingerprint of the point where it began


def loss_after(
    trial: Trial, rates: Sequence[float], batches: int, *, limit: float | None, validates: bool
) -> Seen:
    """Take a step at each of the rates; return the losses after the last one.

    Args:
        trial: At the start of a stage.
        rates: Of the trial's steps.
        batches: On which to read the loss, one by one.
        limit: A trial stops when the mean of its last three training losses is above it, or when
            one is not a number, or is huge: 1e10 or, if that is larger, 1e10 times the loss of its
            first step. None lets it take all its steps.
        validates: Whether it is the validation loss that is read.
    """
    start, trained, huge = trial.fingerprint(), list[float](), _HUGE
    for rate in rates:
        trained.append(float(trial.step(rate)))
        huge = _HUGE * max(1.0, abs(trained[0]))
        if limit is not None and not _below(trained[-_RECENT:], limit, huge):
            return Seen((), len(trained), failed=True, start=start)
    if validates:
        losses = [trial.val_loss(1, drawn=True, first=index) for index in range(batches)]
    else:
        losses = trial.train_losses(batches)
    failed = not _finite([*trained, *losses], huge)
    return Seen(losses, len(trained), failed=failed, start=start)


def losses_on_the_way(trial: Trial, stage: Stage, rates: Sequence[float], val_batches: int) -> Seen:
    """Take a step at each of the rates; return the losses of the last tau' steps.

    Args:
        trial: At the start of a stage.
        stage: Where it validates, all validation losses of the trial are returned instead.
        rates: Of the trial's steps; the first trial of a run may take one step more.
        val_batches: Of a validation loss.
    """
    start, losses = trial.fingerprint(), list[float]()
    for taken, rate in enumerate(rates, start=1):
        loss = float(trial.step(rate))
        if not stage.period:
            losses.append(loss)
        elif stage.validates(taken, len(losses)):
            losses.append(trial.val_loss(val_batches, drawn=True))
    losses = losses[-stage.trial :]
    return Seen(losses, len(rates), failed=not _finite(losses), start=start)


def _below(losses: Sequence[float], limit: float, huge: float) -> bool:
    return _finite(losses, huge) and math.fsum(losses) <= limit * len(losses)


def _finite(losses: Sequence[float], huge: float = _HUGE) -> bool:
    return all(abs(loss) < huge for loss in losses)
