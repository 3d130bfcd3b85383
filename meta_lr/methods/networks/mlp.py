"""A scheduler without memory: a small multilayer perceptron on the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from meta_lr.methods.networks.network import (
    FeedForward,
    FoldedScores,
    Layers,
    Shapes,
    Start,
    begin,
    is_whole,
    refuse_options,
    shapes_of,
)
from meta_lr.seeds import generator
from meta_lr.vectors import Tensors


@dataclass(frozen=True)
class MLP(FeedForward):
    """ReLU layers on the features x, then a sigmoid: p = sigmoid(W_n relu(... relu(W_1 x + b_1))).

    With a floor above 0, p = floor^(1 - sigmoid(...)). With the loss as its only input it is the
    control for the recurrent network: it is a function of the present loss only.

    Args:
        hidden: Size of each hidden layer; without hidden layers, z is linear in the features.
        inputs: Number of features.
        floor: Smallest output. With 0.0 the output is the plain sigmoid, which reaches small
            learning rates slowly. Above 0, the logarithm of the output is linear in the sigmoid,
            from `floor` to 1.
        outputs: Number of outputs of `scores`; a learned schedule of the loss has 1.
        activation: Activation of the hidden layers, "relu" or "tanh".

    >>> net = MLP(hidden=(8,))
    >>> p, memory = net(net.init(0), torch.tensor(2.3), net.memory())
    >>> p.shape, memory
    (torch.Size([]), ())
    """

    hidden: tuple[int, ...] = (32, 32)
    inputs: int = 1
    floor: float = 0.0
    outputs: int = 1
    activation: Literal["relu", "tanh"] = "relu"

    def __post_init__(self) -> None:
        if not (isinstance(self.hidden, Sequence) and all(is_whole(n, 1) for n in self.hidden)):
            raise ValueError(f"MLP got hidden={self.hidden!r}; it is a list of sizes >= 1")
        object.__setattr__(self, "hidden", tuple(self.hidden))  # configurations give lists
        if not is_whole(self.outputs, 1) or self.activation not in ("relu", "tanh"):
            raise ValueError(
                f"MLP got outputs={self.outputs!r}, activation={self.activation!r}; outputs is at "
                "least 1, activation is 'relu' or 'tanh'"
            )
        refuse_options(self)

    @property
    def names(self) -> tuple[str, ...]:
        """A weight and a bias per layer."""
        layers = range(len(self.hidden) + 1)
        return tuple(f"layer{i}.{kind}" for i in layers for kind in ("weight", "bias"))

    @property
    def shapes(self) -> Shapes:
        """The shape of each weight, in the order of `names`."""
        return shapes_of(self._layers)

    def init(self, seed: int, start: Start = "linear") -> Tensors:
        """Return initial weights, by default U(-1/sqrt(fan_in), 1/sqrt(fan_in)); see `begin`."""
        return begin(self._layers, generator(seed, "mlp"), start)

    @property
    def _layers(self) -> Layers:
        return list(zip((*self.hidden, self.outputs), (self.inputs, *self.hidden), strict=True))

    def scores(self, weights: Tensors, x: Tensor, memory: Tensors) -> tuple[Tensor, Tensors]:
        """Return the values of the last layer (outputs,) for the features (inputs,), and ()."""
        act = torch.relu if self.activation == "relu" else torch.tanh
        x = x.reshape(self.inputs).to(weights[0])
        for layer in range(len(self.hidden)):
            x = act(weights[2 * layer] @ x + weights[2 * layer + 1])
        return weights[-2] @ x + weights[-1], memory

    def fold_scores(self, weights: Tensors) -> FoldedScores:
        """Return `scores` in NumPy."""
        arrays = [weight.detach().cpu().numpy() for weight in weights]
        tanh = self.activation == "tanh"

        def scores(x: Any, memory: Tensors) -> np.ndarray:
            x = np.array(x, arrays[0].dtype, ndmin=1)
            for layer in range(len(self.hidden)):
                x = arrays[2 * layer] @ x + arrays[2 * layer + 1]
                x = np.tanh(x) if tanh else np.maximum(x, 0)
            return arrays[-2] @ x + arrays[-1]

        return scores
