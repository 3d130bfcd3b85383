"""What a schedule reads of one step of copies that are trained side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from meta_lr.optim.signals import Pieces


class Seen(NamedTuple):
    """One step of all copies; each tensor has a first dimension for the copy.

    It is taken where a controller reads its `StepView`: with the gradients of the step, before the
    weights change.
    """

    losses: Tensor  # (copies,)
    params: Tensor  # (copies, numbers): of the tensors that `meta_lr.optim.signals.chosen` names
    grads: Tensor  # (copies, numbers), of the same
    direction: Callable[[], Tensor]  # what is subtracted per unit of learning rate, shaped alike
    step: int  # inner steps taken so far, from 0
    total_steps: int
    pieces: Pieces  # where the tensors are in these numbers
