"""A user-defined torch module as a scheduler network."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from meta_lr.methods.networks.network import (
    FeedForward,
    FoldedScores,
    Shapes,
    Start,
    is_whole,
    refuse_options,
)
from meta_lr.seeds import derive
from meta_lr.vectors import Tensors


@dataclass(frozen=True)
class ModuleNetwork(FeedForward):
    """A torch module that maps the features (inputs,) to (outputs,), without memory.

    Its checkpoint holds the weights and the printed form of the module, but not its code. To load
    the checkpoint, pass the same network as `net=`.

    Args:
        module: The module. Each of its parameters belongs to a submodule with a method
            `reset_parameters`, as in torch's layers; it has no buffers. It is not changed.
        inputs: Number of features.
        outputs: Number of outputs; a learned schedule of the loss has 1.
        floor: Smallest output; see `MLP`.

    Raises:
        ValueError: The module does not fit, or an option is out of range.

    >>> net = ModuleNetwork(nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 1)))
    >>> p, memory = net(net.init(0), torch.tensor(2.3), net.memory())
    >>> p.shape, memory, net.names[0]
    (torch.Size([]), (), '0.weight')
    """

    module: nn.Module
    inputs: int = 1
    outputs: int = 1
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not is_whole(self.outputs, 1):
            raise ValueError(f"ModuleNetwork got outputs={self.outputs!r}; it is at least 1")
        refuse_options(self)
        _refuse_unusable(self.module)
        given = self._tried()
        if not isinstance(given, Tensor) or given.shape != (self.outputs,):
            shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise ValueError(
                f"the module maps {self.inputs} features to {shape}; needed is a tensor of shape "
                f"({self.outputs},)"
            )

    def _tried(self) -> Any:
        """Return the output of the module for zeros."""
        try:
            with torch.no_grad():
                return self.module(torch.zeros(self.inputs))
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"the module takes no tensor of shape ({self.inputs},): {error}"
            ) from error

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the module's parameters."""
        return tuple(name for name, _ in self.module.named_parameters())

    @property
    def shapes(self) -> Shapes:
        """The shape of each parameter, in the order of `names`."""
        return tuple(tuple(p.shape) for p in self.module.parameters())

    def init(self, seed: int, start: Start = "linear") -> Tensors:
        """Return initial weights, drawn by the submodules' `reset_parameters`.

        Args:
            seed: Seed of the random numbers.
            start: "linear", or "zero"; with "zero" the weights of the last submodule are zero.

        Raises:
            ValueError: `start` has another value.
        """
        if start not in ("linear", "zero"):
            raise ValueError(f"start is {start!r}; a torch module takes 'linear' or 'zero'")
        module = copy.deepcopy(self.module)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(seed, "module"))
            parts = [part for part in module.modules() if hasattr(part, "reset_parameters")]
            for part in parts:
                part.reset_parameters()  # pyright: ignore[reportCallIssue]
        for p in parts[-1].parameters() if start == "zero" else ():
            nn.init.zeros_(p)
        return tuple(p.detach() for p in module.parameters())

    def scores(self, weights: Tensors, x: Tensor, memory: Tensors) -> tuple[Tensor, Tensors]:
        """Return the module's outputs (outputs,) for the features (inputs,), and ()."""
        named = dict(zip(self.names, weights, strict=True))
        return functional_call(self.module, named, (x.reshape(self.inputs).to(weights[0]),)), memory

    def fold_scores(self, weights: Tensors) -> FoldedScores:
        """Return `scores` of numbers."""

        @torch.no_grad()
        def scores(x: Any, memory: Tensors) -> np.ndarray:
            return self.scores(weights, torch.as_tensor(x), memory)[0].numpy()

        return scores


def _refuse_unusable(module: nn.Module) -> None:
    """Raise a ValueError unless the module is a pure function of weights that can be redrawn."""
    if not isinstance(module, nn.Module) or not list(module.parameters()):
        raise ValueError(f"ModuleNetwork got {type(module).__name__}; a torch module is needed")
    if list(module.buffers()):
        names = ", ".join(name for name, _ in module.named_buffers())
        raise ValueError(
            f"the module has buffers ({names}), which no checkpoint would keep; leave them out"
        )
    drawn = {
        id(p)
        for part in module.modules()
        if hasattr(part, "reset_parameters")
        for p in part.parameters()
    }
    stray = [name for name, p in module.named_parameters() if id(p) not in drawn]
    if stray:
        raise ValueError(
            f"the parameters {', '.join(stray)} belong to no part with reset_parameters(); give "
            "the module that owns them this method, so that a seed makes them again"
        )
