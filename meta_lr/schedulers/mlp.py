"""A scheduler without memory: a small multilayer perceptron on the loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from meta_lr.schedulers.network import Folded, Tensors
from meta_lr.seeds import generator


@dataclass(frozen=True)
class MLP:
    """ReLU layers on the loss, then a sigmoid: p = sigmoid(W_n relu(... relu(W_1 x + b_1))).

    The control for the recurrent network: what it can do, a function of the present loss can do.

    Args:
        hidden: Size of each hidden layer.

    >>> net = MLP(hidden=(8,))
    >>> p, memory = net(net.init(0), torch.tensor(2.3), net.memory())
    >>> p.shape, memory
    (torch.Size([]), ())
    """

    hidden: tuple[int, ...] = (50,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # configurations give lists
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"MLP got hidden={self.hidden}; it takes at least one positive size")

    @property
    def names(self) -> tuple[str, ...]:
        """A weight and a bias per layer."""
        layers = range(len(self.hidden) + 1)
        return tuple(f"layer{i}.{kind}" for i in layers for kind in ("weight", "bias"))

    def init(self, seed: int) -> Tensors:
        """Return weights drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as torch's Linear does."""
        draw, weights = generator(seed, "mlp"), []
        for columns, rows in zip((1, *self.hidden), (*self.hidden, 1), strict=True):
            for shape in ((rows, columns), (rows,)):
                weights.append((2 * torch.rand(shape, generator=draw) - 1) * columns**-0.5)
        return tuple(weights)

    def memory(self) -> Tensors:
        """Return (): there is none."""
        return ()

    def __call__(self, weights: Tensors, loss: Tensor, memory: Tensors) -> tuple[Tensor, Tensors]:
        """Return the output () and ()."""
        x = loss.reshape(1).to(weights[0])
        for layer in range(len(self.hidden)):
            x = torch.relu(weights[2 * layer] @ x + weights[2 * layer + 1])
        return torch.sigmoid(weights[-2] @ x + weights[-1]).squeeze(), memory

    def fold(self, weights: Tensors) -> Folded:
        """Return the same function in NumPy."""
        arrays = [weight.detach().cpu().numpy() for weight in weights]

        def perceptron(loss: float, memory: Tensors) -> float:
            x = np.full(1, loss, arrays[0].dtype)
            for layer in range(len(self.hidden)):
                x = np.maximum(arrays[2 * layer] @ x + arrays[2 * layer + 1], 0)
            return float(1 / (1 + np.exp(-(arrays[-2] @ x + arrays[-1])))[0])

        return perceptron
