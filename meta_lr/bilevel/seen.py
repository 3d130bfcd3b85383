"""What a schedule reads at one step of copies that are trained in parallel."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from meta_lr.optim.signals import Pieces


class Seen(NamedTuple):
    """One step of all copies; the first dimension of each tensor is the copy.

    It holds the values that a controller reads in its `StepView`: the gradients of the step are
    known, and the weights have not changed yet.
    """

    losses: Tensor  # (copies,)
    params: Tensor  # (copies, numbers): of the tensors that `meta_lr.optim.signals.chosen` names
    grads: Tensor  # (copies, numbers), of the same
    direction: Callable[[], Tensor]  # what is subtracted per unit of learning rate, same shape
    step: int  # inner steps taken so far, from 0
    total_steps: int
    pieces: Pieces  # position of each tensor in these numbers
