"""The loss above which a trial has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from meta_lr.training.sandbox import Sandbox

_BATCHES = 4  # by which the loss at the start is known


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
        losses = torch.tensor(trial.train_losses(_BATCHES), dtype=torch.float64)
    return Start(float(losses.mean()), float(losses.std()))
