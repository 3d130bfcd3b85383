"""The scale of a learned rate, from the loss at the start of training."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class InitialLossGamma:
    """The scale gamma that MLR-SNet's authors compute from the initial loss L and C classes.

    Update:
        gamma = sqrt(L') ln(L' C) / (4 C^(1/4)),  L' = max(L, e / C).
    Reference:
        The published code of Shu et al. (2020), arXiv 2007.14546; it is not in the paper.
    Deviations:
        1. The original has L for L': it is zero at L = 1/C and rises again below. The guard keeps
        it positive and monotone.
        2. L is the loss of the first batch, not of a pass over the training set.

    >>> round(InitialLossGamma(num_classes=10)(math.log(10)), 3)
    0.669
    """

    num_classes: int

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"num_classes is {self.num_classes}; the formula needs at least 2")

    def __call__(self, loss: float) -> float:
        """Return gamma for the initial loss (nats)."""
        level = max(loss, math.e / self.num_classes)
        scale = 4.0 * self.num_classes**0.25
        return math.sqrt(level) * math.log(level * self.num_classes) / scale
