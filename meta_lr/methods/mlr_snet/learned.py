"""A learned network as a controller: it maps the training history to the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from meta_lr import callers
from meta_lr.annealing import cosine_share
from meta_lr.bilevel.schedules import Seen
from meta_lr.methods.features.features import Features, Read
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma, refuse_useless
from meta_lr.methods.networks.network import Folded, Network, fingerprint_of, options
from meta_lr.protocol import Need, StepView
from meta_lr.vectors import Tensors

RAW = Features()
_MADE = ("_folded", "_read")  # functions, made on first use; they cannot be pickled


class LearnedState(NamedTuple):
    """The memory, and whether a loss outside the range of meta-training was seen."""

    memory: tuple[Tensor, ...]  # of the network, the features, and gamma's formula
    warned: bool = False


@dataclass(frozen=True, repr=False, eq=False)
class Learned:
    """The learning rate of a network that reads features of the training history.

    Update:
        x, state = features(loss, step, state);
        p, memory = net(weights of the stage, x, memory);  rate = gamma p.
        With n stages, each is used for 1/n of the run; the memory is carried over.
        Annealed: rate = gamma p / p0 (1 + cos(pi t / T)) / 2 at step t of T, with p0 the output
        for a value of 0 at the network's head.
    Reference:
        Shu et al. (2020), arXiv 2007.14546: MLR-SNet, with three stages in transfer.
    Deviations:
        1. gamma is a constant by default. The published transfer computes it again at each stage
        from the loss over the whole training set (`InitialLossGamma` uses the losses of the run).
        2. Stages end at thirds of the run in steps, not in epochs. 3. Features other than the raw
        loss are additions.
    Cost:
        one pass of the network, in NumPy when the loss is on the host; no forward passes.

    Args:
        net: The network.
        stages: One tuple of weights per stage.
        gamma: The maximum learning rate, or a formula for it. Annealed: the peak of the
            cosine that the network corrects.
        family: The optimizer family that gamma is valid for; "" for any family.
        loss_range: Smallest and largest loss seen in meta-training. The first loss that is outside
            by more than a tenth of the range gives a warning. The range is that of the raw loss,
            for any features.
        features: The inputs of the network.
        anneal: Whether the learning rate is a cosine times a factor from the network. The factor is
            in [1/10, 10] for a floor of 0.01, and in [0, 2] for a plain sigmoid.

    >>> from meta_lr.methods.networks.lstm import LSTM
    >>> net = LSTM(hidden=4)
    >>> Learned(net, [net.init(0)], 0.5).needs
    <Need.LOSS: 1>
    """

    net: Network
    stages: Sequence[Tensors]
    gamma: float | InitialLossGamma
    family: str = ""
    loss_range: tuple[float, float] | None = None
    features: Features = RAW
    anneal: bool = False

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("Learned needs the weights of at least one stage")
        refuse_useless(self.gamma)
        if self.net.inputs != self.features.inputs:
            raise ValueError(
                f"{self.net!r} reads {self.net.inputs} features, but {self.features!r} gives "
                f"{self.features.inputs}; build the network with inputs={self.features.inputs}"
            )
        if self.net.outputs != 1:
            raise ValueError(f"Learned needs a network of one output, and got {self.net!r}")
        if self.features.needs & Need.GRADS:
            raise ValueError(
                f"Learned reads the losses alone, and {self.features!r} has features of the "
                "gradient; leave these out, or use SelfTuning"
            )

    def __repr__(self) -> str:
        return (
            f"Learned(net={self.net!r}, fingerprint={self.fingerprint!r}, gamma={self.gamma!r}, "
            f"stages={len(self.stages)}, family={self.family!r}, loss_range={self.loss_range!r}, "
            f"features={self.features!r}, anneal={self.anneal!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _MADE}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights, the network, its sizes, and its features."""
        kind: dict[str, Any] = {"net": type(self.net).__name__, **options(self.net)}
        if not self.features.raw:
            kind["features"] = self.features.names
        if isinstance(self.gamma, InitialLossGamma):
            kind["gamma"] = asdict(self.gamma)
        if self.anneal:
            kind["anneal"] = True
        return fingerprint_of(kind, self.net, self.stages)

    @property
    def needs(self) -> Need:
        """The loss; also the run length if stages, annealing or features need it."""
        return self._needs  # read at every step

    @cached_property
    def _needs(self) -> Need:
        needs = self.features.needs
        return needs | Need.HORIZON if len(self.stages) > 1 or self.anneal else needs

    @property
    def phi(self) -> Tensors:
        """The weights of the first stage: the meta-parameters."""
        return self.stages[0]

    def differentiable(self, phi: Tensors) -> Learned:
        """Return a copy with `phi` as its only stage; its learning rate depends on `phi`."""
        return replace(self, stages=(phi,))

    def init(self) -> LearnedState:
        """Return the state before the first step."""
        formula = self.gamma.init() if isinstance(self.gamma, InitialLossGamma) else ()
        return LearnedState(self.net.memory() + self.features.init() + formula)

    def __call__(self, view: StepView, state: LearnedState) -> tuple[float | Tensor, LearnedState]:
        """Return the learning rate for this loss, and the next state."""
        total_steps = view.total_steps if self._horizon else 0
        stage = self._stage(view.step, total_steps)
        if torch.is_grad_enabled() and (self._learning or view.loss.requires_grad):
            weights, step = self.stages[stage], view.step
            rate, memory = self.pure(
                weights, view.loss, state.memory, step=step, total_steps=total_steps
            )
            return rate, state._replace(memory=memory)
        number = view.loss_item()
        gamma = self._constant
        if gamma is None:
            rate = self._quick(number, state.memory, view.step, total_steps)
        else:
            rate = gamma * self._folded[stage](number, state.memory)
        if self._is_strange(number, state):
            return rate, state._replace(warned=True)
        return rate, state  # its memory was updated in place

    def pure(
        self,
        weights: Tensors,
        loss: Tensor,
        memory: Tensors,
        *,
        step: int,
        total_steps: int = 0,
    ) -> tuple[Tensor, Tensors]:
        """Return the learning rate () and the next memory: a pure function for `torch.func`.

        For parallel runs, the first dimension of each tensor is the run, also in the result.

        Args:
            weights: Weights of the present stage.
            loss: Loss of the present step, () or (runs,).
            memory: The memory in the state.
            step: Optimizer steps taken so far, from 0.
            total_steps: Length of the run; read only if `needs` includes HORIZON.
        """
        own, seen, scale = self._parts(memory)
        loss = loss.to(weights[0].device)  # phi and the memory are there; the model may not be
        x, seen = self.features(loss, seen, step=step, total_steps=total_steps)
        net = vmap(self.net.__call__) if loss.ndim else self.net
        p, own = net(weights, x, own)
        if self.anneal:
            p = p * cosine_share(step, total_steps)
        if not isinstance(self.gamma, InitialLossGamma):
            return self.gamma * self.swing * p, own + seen
        gamma, scale = self.gamma.follow(loss, scale, enters=self._enters(step, total_steps))
        return gamma.to(p) * self.swing * p, own + seen + scale

    def side_by_side(
        self, weights: Tensors, seen: Seen, state: LearnedState
    ) -> tuple[Tensor, LearnedState]:
        """Return the learning rates (copies,) and the next state of parallel copies."""
        lr, memory = self.pure(
            weights, seen.losses, state.memory, step=seen.step, total_steps=seen.total_steps
        )
        return lr, LearnedState(memory)

    def _quick(self, loss: float, memory: Tensors, step: int, total_steps: int) -> float:
        """Return the learning rate as a number; the memory is updated in place."""
        own, seen, scale = self._parts(memory)
        x = self._read(loss, step, total_steps, seen)
        p = self._folded[self._stage(step, total_steps)](x, own)
        if self.anneal:
            p *= cosine_share(step, total_steps)
        if not isinstance(self.gamma, InitialLossGamma):
            return self.gamma * self.swing * p
        enters = self._enters(step, total_steps)
        return self.gamma.follow_item(loss, scale, enters=enters) * self.swing * p

    def _parts(self, memory: Tensors) -> tuple[Tensors, Tensors, Tensors]:
        """Return the memory of the network, of the features and of gamma's formula."""
        first, second = self._borders
        return memory[:first], memory[first:second], memory[second:]

    def _enters(self, step: int, total_steps: int) -> bool:
        """Return whether a stage other than the first begins with this step."""
        before = self._stage(max(step - 1, 0), total_steps)
        return self._stage(step, total_steps) != before

    def _stage(self, step: int, total_steps: int) -> int:
        last = len(self.stages) - 1
        return min(step * len(self.stages) // total_steps, last) if last else 0

    @cached_property
    def _borders(self) -> tuple[int, int]:
        first = len(self.net.memory())
        return first, first + len(self.features.init())

    @cached_property
    def _horizon(self) -> bool:
        return bool(self.needs & Need.HORIZON)

    @property
    def highest(self) -> float:
        """The maximum learning rate, for a constant gamma."""
        if isinstance(self.gamma, InitialLossGamma):
            raise ValueError(f"{self!r} has no highest learning rate before its first loss")
        return self.gamma * self.swing

    @cached_property
    def swing(self) -> float:
        """The maximum learning rate divided by gamma: 1, or 1 / p0 if annealed."""
        if not self.anneal:
            return 1.0
        return self.net.floor**-0.5 if self.net.floor else 2.0

    @cached_property
    def _constant(self) -> float | None:
        """Gamma, if the learning rate is gamma times the output for the raw loss, else None."""
        plain = self.features.raw and not self.anneal
        return self.gamma if plain and not isinstance(self.gamma, InitialLossGamma) else None

    @cached_property
    def _learning(self) -> bool:
        return any(weight.requires_grad for weights in self.stages for weight in weights)

    @cached_property
    def _folded(self) -> list[Folded]:
        return [self.net.fold(weights) for weights in self.stages]

    @cached_property
    def _read(self) -> Read:
        return self.features.fold()

    def _is_strange(self, loss: float, state: LearnedState) -> bool:
        """Return whether this is the first loss outside the known range; if so, warn."""
        if self.loss_range is None or state.warned:
            return False
        low, high = self.loss_range
        margin = 0.1 * (high - low)
        if low - margin <= loss <= high + margin:
            return False
        callers.warn(
            f"the loss {loss:.4g} is outside [{low:.4g}, {high:.4g}], the range of meta-training; "
            "from here on the learning rate is an extrapolation"
        )
        return True
