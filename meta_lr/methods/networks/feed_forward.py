"""What networks without memory share: the output is a function of the last layer's scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from torch import Tensor

from meta_lr.methods.networks.network import Folded, FoldedScores, output, raised
from meta_lr.vectors import Tensors


class FeedForward(ABC):
    """A network without memory; see `Network` for what the methods return."""

    floor: float

    @abstractmethod
    def scores(self, weights: Tensors, x: Tensor, memory: Tensors) -> tuple[Tensor, Tensors]:
        """Return what the last layer gives (outputs,) for the features (inputs,), and ()."""

    @abstractmethod
    def fold_scores(self, weights: Tensors) -> FoldedScores:
        """Return `scores` as a function of numbers."""

    def memory(self) -> Tensors:
        """Return (): the network has no memory."""
        return ()

    def __call__(self, weights: Tensors, x: Tensor, memory: Tensors) -> tuple[Tensor, Tensors]:
        """Return the output () for the features (inputs,), and ()."""
        z, memory = self.scores(weights, x, memory)
        return output(z, self.floor).squeeze(), memory

    def fold(self, weights: Tensors) -> Folded:
        """Return the same function of numbers."""
        scores = self.fold_scores(weights)

        def cell(x: Any, memory: Tensors) -> float:
            return float(1 / (1 + np.exp(-scores(x, memory)))[0])

        return raised(cell, self.floor)
