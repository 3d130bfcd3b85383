"""MLR-SNet's cell: an LSTM whose gates come from two-layer ReLU maps with a bottleneck."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from meta_lr.methods.networks.network import (
    Folded,
    FoldedScores,
    Layers,
    Shapes,
    Start,
    begin,
    is_number,
    is_whole,
    output,
    raised,
    refuse_options,
    shapes_of,
)
from meta_lr.seeds import generator
from meta_lr.vectors import Tensors


@dataclass(frozen=True)
class LSTM:
    """One recurrent step on the features `x` (in the paper only the loss), then a sigmoid head.

    Update:
        z = B_x relu(A_x x + a_x) + b_x + B_h relu(A_h h + a_h) + b_h, of size 4 hidden;
        i, f, o = sigmoid of their parts of z (f's shifted by `forget_offset`), g = tanh of g's;
        c' = f c + i g;  h' = o tanh(c');  p = sigmoid(w h' + b);
        with a floor above 0, p = floor^(1 - sigmoid(w h' + b)).
    Reference:
        Shu, Zhu, Zhao, Meng & Xu (2020), arXiv 2007.14546.
    Deviations:
        none by default: sizes, gate order and the forget offset of -1 are those of the published
        image experiments. (The published transfer code uses the gate order `ifgo` and offset 0.)
        More than one input and a floor are additions.
    Cost:
        11,776 weights at the default sizes; about 12,000 multiplications per step.

    Args:
        hidden: Size of h and c.
        bottleneck: Width of the ReLU layers; 0 is half of `hidden`.
        gates: Order of the four gates in z.
        forget_offset: Added to the forget gate's part of z.
        inputs: Number of features.
        floor: Smallest output. With 0.0 the output is the plain sigmoid, which reaches small
            learning rates slowly. Above 0, the logarithm of the output is linear in the sigmoid,
            from `floor` to 1.
        outputs: Number of outputs of `scores`; a learned schedule of the loss has 1.

    >>> net = LSTM(hidden=4)
    >>> p, memory = net(net.init(0), torch.tensor(2.3), net.memory())
    >>> p.shape, memory[0].shape
    (torch.Size([]), torch.Size([2, 4]))
    """

    hidden: int = 50
    bottleneck: int = 0
    gates: Literal["ifog", "ifgo"] = "ifog"
    forget_offset: float = -1.0
    inputs: int = 1
    floor: float = 0.0
    outputs: int = 1

    def __post_init__(self) -> None:
        if not (is_whole(self.hidden, 1) and is_whole(self.bottleneck, 0)):
            raise ValueError(
                f"LSTM got hidden={self.hidden}, bottleneck={self.bottleneck}; "
                "hidden is at least 1, bottleneck at least 0"
            )
        if self.gates not in ("ifog", "ifgo"):
            raise ValueError(f"LSTM got gates={self.gates!r}; it is 'ifog' or 'ifgo'")
        if not is_number(self.forget_offset):
            raise ValueError(f"LSTM got forget_offset={self.forget_offset!r}; it is a number")
        if not is_whole(self.outputs, 1):
            raise ValueError(f"LSTM got outputs={self.outputs!r}; it is at least 1")
        refuse_options(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Weights of the two maps (x and h, each down to the bottleneck and up), and the head."""
        maps = ("x_down", "x_up", "h_down", "h_up", "head")
        return tuple(f"{name}.{kind}" for name in maps for kind in ("weight", "bias"))

    @property
    def shapes(self) -> Shapes:
        """The shape of each weight, in the order of `names`."""
        return shapes_of(self._layers)

    def init(self, seed: int, start: Start = "linear") -> Tensors:
        """Return initial weights, by default U(-1/sqrt(fan_in), 1/sqrt(fan_in)); see `begin`."""
        return begin(self._layers, generator(seed, "lstm"), start)

    @property
    def _layers(self) -> Layers:
        narrow, wide = self.bottleneck or self.hidden // 2 or 1, 4 * self.hidden
        layers = [(narrow, self.inputs), (wide, narrow), (narrow, self.hidden), (wide, narrow)]
        return [*layers, (self.outputs, self.hidden)]

    def memory(self) -> Tensors:
        """Return h and c in one tensor of zeros, of shape (2, hidden)."""
        return (torch.zeros(2, self.hidden),)

    def __call__(self, weights: Tensors, x: Tensor, memory: Tensors) -> tuple[Tensor, Tensors]:
        """Return the output () for the features (inputs,), and the next memory."""
        z, memory = self.scores(weights, x, memory)
        return output(z, self.floor).squeeze(), memory

    def scores(self, weights: Tensors, x: Tensor, memory: Tensors) -> tuple[Tensor, Tensors]:
        """Return the head's values (outputs,) for the features (inputs,), and the next memory."""
        x_down, x_shift, x_up, x_bias, h_down, h_shift, h_up, h_bias, head, head_bias = weights
        h, c = memory[0].to(head)
        z = x_up @ torch.relu(x_down @ x.reshape(self.inputs).to(head) + x_shift) + x_bias
        z = z + h_up @ torch.relu(h_down @ h + h_shift) + h_bias
        gate = dict(zip(self.gates, z.chunk(4), strict=True))
        forget = torch.sigmoid(gate["f"] + self.forget_offset)
        c = forget * c + torch.sigmoid(gate["i"]) * torch.tanh(gate["g"])
        h = torch.sigmoid(gate["o"]) * torch.tanh(c)
        return head @ h + head_bias, (torch.stack([h, c]),)

    def fold(self, weights: Tensors) -> Folded:
        """Return the same function in NumPy."""
        advance = self._fold_cell(weights)
        head, bias = (weight.detach().cpu().numpy()[0] for weight in weights[-2:])
        head_bias = float(bias)

        def cell(x: Any, memory: Tensors) -> float:
            h = advance(x, memory)
            return 0.5 * math.tanh(0.5 * (float(np.dot(head, h)) + head_bias)) + 0.5

        return raised(cell, self.floor)

    def fold_scores(self, weights: Tensors) -> FoldedScores:
        """Return `scores` in NumPy."""
        advance = self._fold_cell(weights)
        head, bias = (weight.detach().cpu().numpy() for weight in weights[-2:])
        return lambda x, memory: head @ advance(x, memory) + bias

    def _fold_cell(self, weights: Tensors) -> FoldedScores:
        """Return the cell in NumPy, for any order of the gates and any offset; it returns h."""
        down, up = self._canonical(weights)
        size, gates, dtype = self.hidden, 3 * self.hidden, down.dtype
        zero, half = np.zeros((), dtype), np.full((), 0.5, dtype)
        seen, narrow, z = (
            np.ones(down.shape[1], dtype),
            np.ones(len(down) + 1, dtype),
            up[:, 0].copy(),
        )
        seen_h, relu, s = seen[:size], narrow[:-1], z[:gates]  # views, as slicing costs time
        i, f, o, g = np.split(z, 4)
        place = size if self.inputs == 1 else slice(size, size + self.inputs)
        known, h, c = None, seen_h, seen_h  # the memory of the last call, and views of it

        def advance(x: Any, memory: Tensors) -> np.ndarray:
            nonlocal known, h, c
            if memory[0] is not known:
                known = memory[0]
                h, c = known.numpy()
            np.copyto(seen_h, h)
            seen[place] = x  # seen is (h, x, 1)
            np.dot(down, seen, relu)
            np.maximum(relu, zero, out=relu)  # narrow is (relu, 1)
            np.dot(up, narrow, z)
            np.tanh(z, z)
            np.multiply(s, half, s)
            np.add(s, half, s)
            np.multiply(c, f, c)
            np.multiply(i, g, i)
            np.add(c, i, c)
            np.tanh(c, h)
            np.multiply(h, o, h)
            return h

        return advance

    def _canonical(self, weights: Tensors) -> tuple[np.ndarray, np.ndarray]:
        """Return each of the two maps as one matrix, with the biases as the last column.

        The gates are in the order i, f, o, g. The weights of the sigmoid gates are halved: because
        sigmoid(z) = (1 + tanh(z / 2)) / 2, one tanh is enough for all four gates.
        """
        w = [weight.detach().cpu().numpy() for weight in weights[:-2]]
        x_down, x_shift, x_up, x_bias, h_down, h_shift, h_up, h_bias = w
        down = np.block(
            [
                [np.zeros((len(x_down), self.hidden)), x_down, x_shift[:, None]],
                [h_down, np.zeros((len(h_down), self.inputs)), h_shift[:, None]],
            ]
        )
        up = np.concatenate([x_up, h_up, (x_bias + h_bias)[:, None]], axis=1)
        parts = dict(zip(self.gates, np.split(up, 4), strict=True))
        parts["f"][:, -1] += self.forget_offset
        up = np.concatenate([parts["i"] / 2, parts["f"] / 2, parts["o"] / 2, parts["g"]])
        return down.astype(x_up.dtype), up.astype(x_up.dtype)
