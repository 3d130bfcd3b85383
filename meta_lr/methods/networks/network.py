"""Scheduler networks: pure functions of their weights, the features and their memory."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields
from numbers import Real
from typing import Any, ClassVar, Literal, Protocol, TypeGuard, get_args

import numpy as np
import torch
from torch import Tensor, nn

from meta_lr.vectors import Tensors

Layers = Sequence[tuple[int, int]]  # rows and columns of each layer
Shapes = tuple[tuple[int, ...], ...]
Folded = Callable[[Any, Tensors], float]  # takes a number for one input, a list for several
FoldedScores = Callable[[Any, Tensors], Any]  # the same, but returns the last layer (outputs,)
Start = Literal["linear", "narrow", "small", "high", "zero"]  # initial weights, see `begin`


class Network(Protocol):
    """A frozen dataclass of sizes and options; the weights are passed in, named by `names`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def inputs(self) -> int:
        """Number of features that the network reads."""
        ...

    @property
    def outputs(self) -> int:
        """Number of outputs of `scores`; a learned schedule of the loss has 1."""
        ...

    @property
    def floor(self) -> float:
        """Smallest output; 0.0 for a plain sigmoid."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """One name per weight, in order."""
        ...

    @property
    def shapes(self) -> Shapes:
        """The shape of each weight, in the same order; nothing is allocated."""
        ...

    def init(self, seed: int, start: Start = "linear") -> Tensors:
        """Return initial weights, a pure function of the arguments; see `begin`."""
        ...

    def memory(self) -> Tensors:
        """Return the memory before the first step; () for a network without one."""
        ...

    def __call__(self, weights: Tensors, x: Tensor, memory: Tensors) -> tuple[Tensor, Tensors]:
        """Return the output () in (floor, 1) and the next memory; differentiable in everything.

        x has the shape (inputs,); for one input () is also accepted.
        """
        ...

    def scores(self, weights: Tensors, x: Tensor, memory: Tensors) -> tuple[Tensor, Tensors]:
        """Return the values of the last layer (outputs,) for the features, and the next memory."""
        ...

    def fold(self, weights: Tensors) -> Folded:
        """Return the same function in NumPy, for fast inference; it updates the memory in place."""
        ...

    def fold_scores(self, weights: Tensors) -> FoldedScores:
        """Return `scores` in NumPy, for fast inference; it updates the memory in place."""
        ...


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


def shapes_of(layers: Layers) -> Shapes:
    """Return the shapes of the weights and biases of layers, as `begin` makes them.

    >>> shapes_of([(8, 1), (1, 8)])
    ((8, 1), (8,), (1, 8), (1,))
    """
    return tuple(shape for rows, columns in layers for shape in ((rows, columns), (rows,)))


def begin(layers: Layers, draw: torch.Generator, start: Start = "linear") -> Tensors:
    """Return the initial weights (rows, columns) and biases (rows,) of layers, the head's last.

    Args:
        layers: Rows and columns of each layer.
        draw: The generator of the random numbers.
        start: "linear": all are from U(-b, b) with b = 1 / sqrt(columns), as in torch's Linear and
            in the image experiments that MLR-SNet's authors published. "narrow": the weights of all
            layers except the head are from U(-0.1, 0.1), as in their language experiments. "small":
            a fifth of "linear". "high": the head's weights are from U(-0.1, 0.1) and its bias is 1,
            as in the schedulers that they published; the first outputs are then near
            sigmoid(1) = 0.73, not 0.5. "zero": the head is 0; the first outputs are then those of
            z = 0 for any input.

    Raises:
        ValueError: `start` is unknown.
    """
    if start not in get_args(Start):
        raise ValueError(f"start is {start!r}; it is one of {', '.join(get_args(Start))}")
    weights = []
    for layer, (rows, columns) in enumerate(layers):
        head, bound = layer == len(layers) - 1, columns**-0.5
        near = 0.1 if start == ("high" if head else "narrow") else bound
        weights.append((2 * torch.rand((rows, columns), generator=draw) - 1) * near)
        bias = (2 * torch.rand((rows,), generator=draw) - 1) * bound
        weights.append(torch.ones_like(bias) if head and start == "high" else bias)
    if start == "zero":
        weights[-2:] = [torch.zeros_like(weight) for weight in weights[-2:]]
    if start == "small":
        weights = [0.2 * weight for weight in weights]
    return tuple(weights)


def output(z: Tensor, floor: float) -> Tensor:
    """Return the output for the head's value z: sigmoid(z), or with a floor its log-scale form."""
    p = torch.sigmoid(z)
    return floor ** (1 - p) if floor else p


def raised(cell: Folded, floor: float) -> Folded:
    """Return `cell` with a floor: its sigmoid output p becomes floor^(1 - p)."""
    if not floor:
        return cell
    return lambda x, memory: floor ** (1 - cell(x, memory))


def refuse_options(net: Network) -> None:
    """Raise a ValueError if an option that all networks have is out of range."""
    if not (is_whole(net.inputs, 1) and is_number(net.floor) and 0.0 <= net.floor < 1.0):
        raise ValueError(
            f"{type(net).__name__} got inputs={net.inputs}, floor={net.floor}; "
            "inputs is at least 1, floor at least 0 and below 1"
        )


def is_number(value: object) -> TypeGuard[float]:
    """Return whether `value` is a real number that fits into a float; bools do not count.

    >>> [is_number(value) for value in (1, 0.5, 10**400, float("nan"), True, "1")]
    [True, True, False, False, False, False]
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_whole(value: object, least: int) -> TypeGuard[int]:
    """Return whether `value` is a whole number >= `least`; bools do not count."""
    return type(value) is int and value >= least


def options(net: Network) -> dict[str, Any]:
    """Return the arguments of `net`, in the form for its fingerprint and its file.

    Options that were added later are left out if they have their default value. Old files and
    fingerprints therefore do not change.
    """
    later = {"inputs": 1, "floor": 0.0, "outputs": 1, "activation": "relu"}
    kept = {field.name: getattr(net, field.name) for field in fields(net)}
    kept = {name: str(v) if isinstance(v, nn.Module) else v for name, v in kept.items()}
    return {name: value for name, value in kept.items() if later.get(name, ...) != value}


def fingerprint_of(kind: dict[str, Any], net: Network, stages: Sequence[Tensors]) -> str:
    """Return a hash (16 hex digits) of plain values and of a network's weights, stage by stage."""
    digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode())
    for weights in stages:
        for name, weight in zip(net.names, weights, strict=True):
            digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
