"""A learned schedule that finds its own scale: it needs no peak, and takes any optimizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from meta_lr import vectors
from meta_lr.protocol import Need, StepView
from meta_lr.schedulers.arithmetic import FLOATS, TENSORS, columns
from meta_lr.schedulers.feature import Moment
from meta_lr.schedulers.features import Features, Read
from meta_lr.schedulers.integrator import Integrator, Scale
from meta_lr.schedulers.mlp import MLP
from meta_lr.schedulers.network import Network, Tensors, options
from meta_lr.schedulers.seen import Seen
from meta_lr.signals import Signals, chosen, measure, measure_copies

# What the network reads, and the factor that brings each feature to about order one.
INPUTS: dict[str, float] = {
    "progress": 1.0,
    "remaining": 1.0,
    "run_length": 1.0,
    "opening": 1.0,
    "level": 0.5,
    "change_3": 4.0,
    "change_10": 4.0,
    "change_30": 3.0,
    "change_share": 3.0,
    "noise": 1.0,
    "alignment_5": 2.0,
    "alignment_30": 4.0,
    "alignment_share": 4.0,
    "gradient_trend": 0.5,
    "relative_update": 0.6,
    "travel": 0.6,
}
FEATURES = Features(tuple(INPUTS))
NETWORK = MLP(hidden=(8,), inputs=len(INPUTS), outputs=2, activation="tanh")
_BOUNDS = Integrator()
_LR = Scale._fields.index("lr")
_HUGE = 1e12  # what the loss or a signal of a diverged copy counts as


class SelfTuningState(NamedTuple):
    """All that is remembered; for copies side by side each tensor has a dimension for them."""

    scale: Tensor  # the integrator's numbers, float64
    last: Tensor  # loss and signals of the last step, float64, where the weights are
    memory: Tensors  # of the features, then of the network
    before: Tensors  # the weights one step ago; of copies, one tensor (copies, numbers)
    start: Tensors  # the weights at the start, likewise
    num_retreats: int = 0
    num_clamped: int = 0
    num_alarms: int = 0


@dataclass(frozen=True, repr=False, eq=False)
class SelfTuning:
    """A network reads the training and says how the learning rate should grow or fall.

    Update:
        x = features of the losses and signals up to the step before;
        direct, increment = net(weights, x);
        lr, s = integrator(s, direct, increment): s adds up the increments, in the logarithm of the
        learning rate, within bounds that do not depend on the network.
    Reference:
        none; the signals are those of learned optimizers (Metz et al. 2022, arXiv 2211.09760), the
        network's size and inputs those of MLR-SNet (Shu et al. 2020, arXiv 2007.14546) widened.
    Deviations:
        none
    Cost:
        two copies of the weights; five norms and products of their size per step

    The learning rate of the optimizer itself is not used: the first step is a fixed small fraction
    of the weights. Only the ratio of the parameter groups to each other is kept. The network reads
    each step one step late, so that an accelerator need not be waited for.

    Args:
        weights: Of the network.
        net: With two outputs.
        integrator: The bounds.
        features: What the network reads, each times its factor in `INPUTS`, or 1.

    Raises:
        ValueError: The network does not fit the features, or has not two outputs.
    """

    weights: Tensors
    net: Network = NETWORK
    integrator: Integrator = _BOUNDS
    features: Features = FEATURES

    def __post_init__(self) -> None:
        if (self.net.inputs, self.net.outputs) != (self.features.inputs, 2):
            raise ValueError(
                f"SelfTuning got {self.net!r}; it needs inputs={self.features.inputs}, the number "
                "of its features, and outputs=2"
            )

    def __repr__(self) -> str:
        return (
            f"SelfTuning(net={self.net!r}, features={self.features!r}, "
            f"integrator={self.integrator!r}, "
            f"fingerprint={self.fingerprint!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        made = ("_read", "_scores")  # made on first use; functions cannot be pickled
        return {name: value for name, value in vars(self).items() if name not in made}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights, the network's sizes, its features and the integrator's bounds."""
        kind = {
            "net": options(self.net),
            "integrator": asdict(self.integrator),
            "inputs": self.inputs,
        }
        digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode())
        for name, weight in zip(self.net.names, self.weights, strict=True):
            digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def stages(self) -> tuple[Tensors, ...]:
        """The weights, as the one stage of a checkpoint."""
        return (self.weights,)

    @property
    def inputs(self) -> dict[str, float]:
        """The features by name, each with its factor."""
        return {name: INPUTS.get(name, 1.0) for name in self.features.names}

    @property
    def needs(self) -> Need:
        """The loss, the weights and gradients, the first direction, and the run length."""
        return self.features.needs | FEATURES.needs | Need.DIRECTION

    def init(self) -> SelfTuningState:
        """Return the state before the first step."""
        none = torch.zeros(0, dtype=torch.float64)
        return SelfTuningState(none, none, self.features.init() + self.net.memory(), (), ())

    def __call__(self, view: StepView, state: SelfTuningState) -> tuple[float, SelfTuningState]:
        """Return the learning rate of this step, and the next state."""
        places = chosen([p.shape for p in view.params])
        params, grads = ([tensors[i] for i in places] for tensors in (view.params, view.grads))
        if state.before:
            lr, scale = self._follow(state, view.step - 1, view.total_steps)
        else:
            lr, scale = self._first(view, places)
            before, start = (tuple(p.detach().clone() for p in params) for _ in range(2))
            state = state._replace(before=before, start=start)
        signals = measure(params, grads, state.before, state.start)
        torch._foreach_copy_(list(state.before), params)
        return lr, state._replace(
            scale=torch.tensor(scale, dtype=torch.float64),
            last=torch.stack([view.loss.to(signals.weights), *signals]).double(),
            num_retreats=int(scale.num_retreats),
            num_clamped=int(scale.num_clamped),
            num_alarms=int(scale.num_alarms),
        )

    def side_by_side(
        self, weights: Tensors, seen: Seen, state: SelfTuningState
    ) -> tuple[Tensor, SelfTuningState]:
        """Return the learning rates (copies,) and the next state of copies side by side.

        Args:
            weights: Of the network, each with a first dimension for the copy.
            seen: The step.
            state: That of `init`, each tensor with a first dimension for the copy, or of the step
                before.
        """
        if state.before:
            scale, memory = self._follow_copies(weights, state, seen.step - 1, seen.total_steps)
        else:
            scale, memory = self._first_of_copies(seen), state.memory
            state = state._replace(before=(seen.params,), start=(seen.params,))
        signals = measure_copies(seen.params, seen.grads, state.before[0], state.start[0])
        return scale[:, _LR].to(seen.losses), state._replace(
            scale=scale,
            last=torch.stack([seen.losses, *signals], 1).double(),
            memory=memory,
            before=(seen.params,),
        )

    def _first(self, view: StepView, places: Sequence[int]) -> tuple[float, Scale]:
        direction = view.direction
        norm, size = (
            vectors.norm([tensors[i].detach() for i in places]).item()
            for tensors in (view.params, direction)
        )
        return self.integrator.begin(FLOATS, view.loss_item(), norm, size, view.total_steps)

    def _follow(self, state: SelfTuningState, step: int, total_steps: int) -> tuple[float, Scale]:
        """Return the learning rate of the step after `step`; the memory is updated in place."""
        loss, *signals = state.last.tolist()
        now = Moment(loss, step, total_steps, Signals(*signals))
        own = self._own
        x = self._read(loss, step, total_steps, state.memory[:own], now.signals)
        x = [value * factor for value, factor in zip(x, self._factors, strict=True)]
        direct, increment = self._scores(x, state.memory[own:]).tolist()
        scale = Scale(*state.scale.tolist())
        return self.integrator.step(FLOATS, scale, now, direct, increment)

    def _first_of_copies(self, seen: Seen) -> Tensor:
        norm, size = (t.norm(dim=1).double() for t in (seen.params, seen.direction()))
        losses = seen.losses.double()
        _, scale = self.integrator.begin(TENSORS, losses, norm, size, seen.total_steps)
        return torch.stack(scale, 1)

    def _follow_copies(
        self, weights: Tensors, state: SelfTuningState, step: int, total_steps: int
    ) -> tuple[Tensor, Tensors]:
        """Return the integrator's numbers and the memory of the step after `step`."""
        by = columns(*weights, state.scale, state.last, *state.memory)
        own, copies = self._own, len(state.last)
        loss, *signals = by.apart(_finite(state.last))
        now = Moment(loss, step, total_steps, Signals(*signals))
        with np.errstate(all="ignore"):  # infinities and NaN are part of the arithmetic
            x, memory = self.features.side_by_side(by, now, state.memory[:own], copies)
            x = (x * x.new_tensor(self._factors)).to(weights[0])
            outputs, kept = vmap(self.net.scores)(weights, x, state.memory[own:])
            scale = Scale(*by.apart(state.scale))
            _, scale = self.integrator.step(by.ops, scale, now, *by.apart(outputs.double()))
        return by.together(scale, copies), memory + kept

    @cached_property
    def _own(self) -> int:
        return len(self.features.init())  # tensors of the memory; the others are the network's

    @cached_property
    def _factors(self) -> tuple[float, ...]:
        return tuple(self.inputs.values())

    @cached_property
    def _read(self) -> Read:
        read = self.features.fold()
        return read if self.features.inputs > 1 else lambda *seen: [read(*seen)]

    @cached_property
    def _scores(self) -> Callable[[Any, Tensors], Any]:
        return self.net.fold_scores(self.weights)


def _finite(numbers: Tensor) -> Tensor:
    return torch.nan_to_num(numbers, _HUGE, _HUGE, _HUGE)
