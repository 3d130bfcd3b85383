"""What a scheduler network is: a pure function of its weights, the loss and its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from torch import Tensor

Tensors = tuple[Tensor, ...]
Folded = Callable[[float, Tensors], float]


class Network(Protocol):
    """A frozen dataclass of sizes and options; the weights are passed in, named by `names`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def names(self) -> tuple[str, ...]:
        """One name per weight, in order."""
        ...

    def init(self, seed: int) -> Tensors:
        """Return fresh weights, a pure function of `seed`."""
        ...

    def memory(self) -> Tensors:
        """Return the memory before the first step; () for a network without one."""
        ...

    def __call__(self, weights: Tensors, loss: Tensor, memory: Tensors) -> tuple[Tensor, Tensors]:
        """Return the output () in (0, 1) and the next memory; differentiable in everything."""
        ...

    def fold(self, weights: Tensors) -> Folded:
        """Return the same function in NumPy, for fast inference; it updates the memory in place."""
        ...
