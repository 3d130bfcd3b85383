"""A learned network as a controller: it reads the training loss and gives the rate."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meta_lr.protocol import Need, StepView
from meta_lr.schedulers.network import Folded, Network, Tensors


class LearnedState(NamedTuple):
    """The network's memory, and whether it has warned of a loss that it never saw."""

    memory: tuple[Tensor, ...]
    warned: bool = False


@dataclass(frozen=True, repr=False, eq=False)
class Learned:
    """The rate of a network that reads the training loss.

    Update:
        p, memory = net(weights of the stage, loss, memory);  rate = gamma p.
        Of n stages, each holds for the n-th part of the run; the memory is carried over.
    Reference:
        Shu et al. (2020), arXiv 2007.14546: MLR-SNet, with three stages in transfer.
    Deviations:
        1. gamma is a constant; the published transfer computes it anew at each stage from the loss
        (see `InitialLossGamma`). 2. Stages end at thirds of the run in steps, not in epochs.
    Cost:
        one pass of the network, in NumPy when the loss is on the host; no forward passes.

    Args:
        net: The network.
        stages: One tuple of weights per stage.
        gamma: The rate at full output.
        family: The optimizer family that gamma holds for; "" for any.
        loss_range: Smallest and largest loss seen in meta-training; a loss outside, by more than a
            tenth of the range, warns once.

    >>> from meta_lr.schedulers.lstm import LSTM
    >>> net = LSTM(hidden=4)
    >>> Learned(net, [net.init(0)], 0.5).needs
    <Need.LOSS: 1>
    """

    net: Network
    stages: Sequence[Tensors]
    gamma: float
    family: str = ""
    loss_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("Learned needs the weights of at least one stage")
        if not 0.0 < self.gamma < float("inf"):
            raise ValueError(f"gamma is {self.gamma}; it is finite and positive")

    def __repr__(self) -> str:
        return (
            f"Learned(net={self.net!r}, fingerprint={self.fingerprint!r}, gamma={self.gamma!r}, "
            f"stages={len(self.stages)}, family={self.family!r}, loss_range={self.loss_range!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_folded"}

    @cached_property
    def fingerprint(self) -> str:
        """A hash that binds the weights to the network and its sizes."""
        kind = {"net": type(self.net).__name__, **asdict(self.net)}
        digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode())
        for weights in self.stages:
            for name, weight in zip(self.net.names, weights, strict=True):
                digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
                digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def needs(self) -> Need:
        """The loss; the length of the run too if there are stages."""
        return Need.LOSS | Need.HORIZON if len(self.stages) > 1 else Need.LOSS

    def init(self) -> LearnedState:
        """Return the state before the first step."""
        return LearnedState(self.net.memory())

    def __call__(self, view: StepView, state: LearnedState) -> tuple[float | Tensor, LearnedState]:
        """Return the rate for this loss, and the next state."""
        stage = self._stage(view)
        if torch.is_grad_enabled() and (self._learning or view.loss.requires_grad):
            p, memory = self.net(self.stages[stage], view.loss, state.memory)
            return self.gamma * p, state._replace(memory=memory)
        number = view.loss_item()
        rate = self.gamma * self._folded[stage](number, state.memory)
        if self._is_strange(number, state):
            return rate, state._replace(warned=True)
        return rate, state  # its memory was updated in place

    def _stage(self, view: StepView) -> int:
        last = len(self.stages) - 1
        return min(view.step * len(self.stages) // view.total_steps, last) if last else 0

    @cached_property
    def _learning(self) -> bool:
        return any(weight.requires_grad for weights in self.stages for weight in weights)

    @cached_property
    def _folded(self) -> list[Folded]:
        return [self.net.fold(weights) for weights in self.stages]

    def _is_strange(self, loss: float, state: LearnedState) -> bool:
        """Return whether to remember that this loss is the first one never seen; warn of it."""
        if self.loss_range is None or state.warned:
            return False
        low, high = self.loss_range
        margin = 0.1 * (high - low)
        if low - margin <= loss <= high + margin:
            return False
        warnings.warn(
            f"the loss {loss:.4g} is outside [{low:.4g}, {high:.4g}], all that this scheduler saw "
            "in meta-training; its rate is an extrapolation from here on",
            stacklevel=2,
        )
        return True
