"""The scale of a learned schedule, from the loss at the start of training or of a stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from meta_lr.methods.features.arithmetic import FLOATS, TENSORS, Arithmetic, Number
from meta_lr.methods.networks.network import is_number, is_whole
from meta_lr.vectors import Tensors


@dataclass(frozen=True)
class InitialLossGamma:
    """The scale gamma that MLR-SNet's authors compute from the initial loss L and C classes.

    Update:
        gamma = sqrt(L') ln(L' C) / (4 C^(1/4)),  L' = max(L, e / C).
    Reference:
        The published code of Shu et al. (2020), arXiv 2007.14546; it is not in the paper.
    Deviations:
        1. The original uses L instead of L'. Its gamma is zero at L = 1/C and rises again below.
        With L', gamma is positive and monotone.
        2. The original computes L over the whole training set before the run and, in transfer,
        before each stage. A controller cannot read that set. Here, L is the loss of the first batch
        and, at a later stage, the mean of the losses during the stage before.
    Cost:
        none; the original evaluates the training set once per stage

    Args:
        num_classes: C; for a language model, the size of the vocabulary.
        recomputed: In transfer, whether gamma is computed again at the start of each stage, as
            published. False keeps the gamma of the first stage.

    >>> round(InitialLossGamma(num_classes=10)(math.log(10)), 3)
    0.669
    """

    num_classes: int
    recomputed: bool = True

    def __post_init__(self) -> None:
        if not (is_whole(self.num_classes, 2) and is_number(self.num_classes)):
            raise ValueError(f"num_classes is {self.num_classes!r}; the formula needs at least 2")
        if not isinstance(self.recomputed, bool):
            raise ValueError(f"recomputed is {self.recomputed!r}, not true or false")

    def __call__(self, loss: float) -> float:
        """Return gamma for the initial loss (nats)."""
        return self._of(FLOATS, loss)

    def init(self) -> Tensors:
        """Return the state before the first step: gamma (0.0: not set), mean and number of losses.

        The losses are those since the start of the present stage. The state is one float64 tensor
        of shape (3,).
        """
        return (torch.zeros(3, dtype=torch.float64),)

    def follow(self, loss: Tensor, state: Tensors, *, enters: bool) -> tuple[Tensor, Tensors]:
        """Return the present gamma () and the next state; differentiable, usable in `vmap`.

        Args:
            loss: Loss () of the present step.
            state: The state from `init` or from the step before.
            enters: Whether a stage other than the first begins with this step.
        """
        values = self._next(TENSORS, loss.to(torch.float64), state[0].unbind(), enters)
        return values[0], (torch.stack(values),)

    def follow_item(self, loss: float, state: Tensors, *, enters: bool) -> float:
        """Return the present gamma as a number; the state is updated in place."""
        values = self._next(FLOATS, loss, state[0].tolist(), enters)
        state[0].numpy()[:] = values
        return values[0]

    def _next(
        self, ops: Arithmetic, loss: Number, values: Sequence[Number], enters: bool
    ) -> list[Number]:
        gamma, mean, count = values
        if enters and self.recomputed:
            gamma = self._of(ops, ops.pick(count, mean, loss))
        if enters:
            mean, count = 0.0 * mean, 0.0 * count
        gamma = ops.pick(gamma, gamma, self._of(ops, loss))
        mean = mean + (loss - mean) / (count + 1)
        return [gamma, mean, count + 1]

    def _of(self, ops: Arithmetic, loss: Number) -> Number:
        level = ops.clip(loss, math.e / self.num_classes, math.inf)
        scale = 4.0 * self.num_classes**0.25
        return ops.sqrt(level) * ops.log(level * self.num_classes) / scale


def refuse_useless(gamma: float | InitialLossGamma) -> None:
    """Raise a ValueError unless gamma is a formula, or a learning rate above 0."""
    if isinstance(gamma, InitialLossGamma):
        return
    if not is_number(gamma) or gamma <= 0.0:
        raise ValueError(f"gamma is {gamma!r}; it is finite and positive, or a formula")
