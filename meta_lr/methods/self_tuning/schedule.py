"""A learned schedule that finds its own scale: it needs no peak and works with any optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from meta_lr import callers, host
from meta_lr.bilevel.schedules import Seen
from meta_lr.methods.features.arithmetic import FLOATS, TENSORS, columns
from meta_lr.methods.features.feature import Moment, share_of_run
from meta_lr.methods.features.features import Features, Read
from meta_lr.methods.networks.mlp import MLP
from meta_lr.methods.networks.network import Network, fingerprint_of, options
from meta_lr.methods.self_tuning.integrator import Integrator, Scale
from meta_lr.methods.self_tuning.one_copy import OneCopy
from meta_lr.optim import shards
from meta_lr.optim.signals import (
    Signals,
    chosen,
    flat,
    least_norms,
    pieces_of,
    signals_of,
    squares,
    sums,
    totals,
)
from meta_lr.protocol import Need, StepView
from meta_lr.vectors import Tensors

# The features that the network reads -> the factor that scales each one to about order one.
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
    "spread": 0.6,
}
FEATURES = Features(tuple(INPUTS))
NETWORK = MLP(hidden=(8,), inputs=len(INPUTS), outputs=2, activation="tanh")
_BOUNDS = Integrator()
_LR = Scale._fields.index("lr")
_HUGE = 1e12  # replaces a loss or a signal that is not finite
_NEGATIVE = (
    "the loss became negative ({:.4g}), and the schedule reads its logarithm: from here on it "
    "follows the gradients and the weights alone; if the loss has a lower bound, observe the loss "
    "minus this bound"
)


class SelfTuningState(NamedTuple):
    """The state; for parallel copies, the first dimension of each tensor is the copy."""

    scale: Any  # the integrator's numbers: a plain tuple, or for copies (copies, numbers), float64
    last: Any  # loss and sums of the last step: numbers, or a tensor where the weights are
    memory: Tensors  # of the features, then of the network
    path: Tensors = ()  # measured weights: one step ago, and smoothed; one tensor each
    places: tuple[int, ...] = ()  # indices of the measured weights in all parameters
    least: Any = 0.0  # lower bound of the norm of each measured tensor: (tensors,)
    num_retreats: int = 0
    num_clamped: int = 0
    num_alarms: int = 0
    num_negative: int = 0  # steps since the first negative loss; losses are not read after it


@dataclass(frozen=True, repr=False, eq=False)
class SelfTuning:
    """A network reads features of the run; its outputs raise or lower the learning rate.

    Update:
        x = features of the losses and signals up to the step before;
        direct, increment = net(weights, x);
        lr, s = integrator(s, direct, increment): s is the sum of the increments, in the logarithm
        of the learning rate, within bounds that do not depend on the network.
    Reference:
        none; the signals are those of learned optimizers (Metz et al. 2022, arXiv 2211.09760). The
        network has more units and inputs than MLR-SNet (Shu et al. 2020, arXiv 2007.14546).
    Deviations:
        none
    Cost:
        two copies of the weights, in float32 at least; per step four norms of each tensor, and one
        product and one average of the size of all weights

    The learning rate of the optimizer itself is not used: the first step is a fixed small fraction
    of the weights. Only the ratios between the parameter groups are kept. The network reads each
    step one step later, so that it never waits for an accelerator.

    A loss of zero has no logarithm, so the smoothed loss replaces it. From the first negative loss
    on, the smoothed loss always replaces it, and the schedule depends only on the gradients and the
    weights. Parameters that are frozen at the first step are not measured. Groups that are added
    later are not measured either. A trained tensor without a gradient is treated as constant. For a
    tensor that begins at zero, the size of torch's usual initial values is used. For a first update
    of zero, the size of the weights is used.

    After the end of the run, the learning rate is 0 and the state does not change. A longer run can
    therefore continue from it.

    Args:
        weights: Weights of the network.
        net: A network with two outputs.
        integrator: The bounds.
        features: The inputs of the network, each times its factor in `INPUTS`, or 1.

    Raises:
        ValueError: The network does not fit the features, or does not have two outputs.
    """

    weights: Tensors
    net: Network = NETWORK
    integrator: Integrator = _BOUNDS
    features: Features = FEATURES
    reads_late: ClassVar[bool] = True

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
        return fingerprint_of(kind, self.net, self.stages)

    @property
    def stages(self) -> tuple[Tensors, ...]:
        """The weights, as the only stage of a checkpoint."""
        return (self.weights,)

    @property
    def phi(self) -> Tensors:
        """The weights: the meta-parameters."""
        return self.weights

    def differentiable(self, phi: Tensors) -> OneCopy:
        """Return the schedule as a controller with weights `phi`, differentiable in `phi`."""
        return OneCopy(self, phi)

    @property
    def inputs(self) -> dict[str, float]:
        """Name of each feature -> its factor."""
        return {name: INPUTS.get(name, 1.0) for name in self.features.names}

    @property
    def needs(self) -> Need:
        """The loss, the weights and gradients, the first direction, and the run length."""
        return self._needs  # views are made at every step

    @cached_property
    def _needs(self) -> Need:
        return self.features.needs | FEATURES.needs | Need.DIRECTION

    def init(self) -> SelfTuningState:
        """Return the state before the first step."""
        none = torch.zeros(0, dtype=torch.float64)
        return SelfTuningState(none, none, self.features.init() + self.net.memory())

    def __call__(self, view: StepView, state: SelfTuningState) -> tuple[float, SelfTuningState]:
        """Return the learning rate of this step, and the next state."""
        if state.path and view.step >= view.total_steps:
            return 0.0, state
        if state.path:
            state, last = self._last(state, view.step - 1, view.total_steps)
            lr, scale = self._follow(state, last)
        else:
            lr, scale, state = self._first(view, state)
        params, grads = ([of[i] for i in state.places] for of in (view.params, view.grads))
        weights = flat(params)
        before, average = (kept.to(weights) for kept in state.path or (weights, weights))
        average = _smoothed(average, weights, view.total_steps)
        found = sums(weights, flat(grads), before, average, shards.lengths(params))
        found = totals(shards.over_ranks(found, params), state.least.to(found))
        return lr, state._replace(
            scale=tuple(scale),
            last=_seen(view, found),
            path=(weights, average),
            num_retreats=int(scale.num_retreats),
            num_clamped=int(scale.num_clamped),
            num_alarms=int(scale.num_alarms),
        )

    def side_by_side(
        self, weights: Tensors, seen: Seen, state: SelfTuningState
    ) -> tuple[Tensor, SelfTuningState]:
        """Return the learning rates (copies,) and the next state of parallel copies.

        The losses must not be negative.

        Args:
            weights: Weights of the network; the first dimension of each is the copy.
            seen: The step.
            state: The state from `init` or from the step before; the first dimension of each
                tensor is the copy.
        """
        if state.path and seen.step >= seen.total_steps:
            return torch.zeros_like(seen.losses), state
        if state.path:
            scale, memory = self._follow_copies(weights, state, seen.step - 1, seen.total_steps)
        else:
            scale, least = self._first_of_copies(seen)
            memory, state = state.memory, state._replace(path=(seen.params,) * 2, least=least)
        before, average = state.path
        average = _smoothed(average, seen.params, seen.total_steps)
        found = sums(seen.params, seen.grads, before, average, seen.pieces.lengths)
        found = totals(found, state.least)
        return scale[:, _LR].to(seen.losses), state._replace(
            scale=scale,
            last=torch.cat([seen.losses[:, None], found], 1).double(),
            memory=memory,
            path=(seen.params, average),
        )

    def _first(
        self, view: StepView, state: SelfTuningState
    ) -> tuple[float, Scale, SelfTuningState]:
        trained = [p.requires_grad for p in view.params]
        places = chosen([p.shape for p in view.params], trained)
        params, update = ([tensors[i] for i in places] for tensors in (view.params, view.update))
        shards.refuse_mixed(params)
        lengths = shards.lengths(params)
        norm, size = (
            shards.over_ranks(squares(flat(tensors), lengths), params).sqrt()
            for tensors in (params, update)
        )
        least = least_norms(norm, pieces_of([p.shape for p in params]).usual)
        size, loss = _first_size(norm, size, least).item(), view.loss_item()
        lr, scale = self.integrator.begin(
            FLOATS, 1.0 if loss <= 0 else loss, size, view.total_steps
        )
        return lr, scale, state._replace(places=places, least=least)

    def _last(
        self, state: SelfTuningState, step: int, total_steps: int
    ) -> tuple[SelfTuningState, Moment]:
        """Return the state and the last step, with a positive loss and finite signals."""
        loss, *signals = _finite_numbers(host.receive(state.last))
        if loss < 0 and not state.num_negative:
            callers.warn(_NEGATIVE.format(loss))
        if loss < 0 or state.num_negative:
            state = state._replace(num_negative=state.num_negative + 1)
        if loss <= 0 or state.num_negative:
            loss = math.exp(Scale(*state.scale).level)
        return state, Moment(loss, step, total_steps, Signals(*signals))

    def _follow(self, state: SelfTuningState, last: Moment) -> tuple[float, Scale]:
        """Return the learning rate of the step after `last`; the memory is updated in place."""
        loss, step, total_steps, signals = last
        own = self._own
        x = self._read(loss, step, total_steps, state.memory[:own], signals)
        x = [value * factor for value, factor in zip(x, self._factors, strict=True)]
        direct, increment = self._scores(x, state.memory[own:]).tolist()
        return self.integrator.step(FLOATS, Scale(*state.scale), last, direct, increment)

    def _first_of_copies(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Return the integrator's numbers, and the lower bounds of the norms of the tensors."""
        lengths, usual = seen.pieces
        norm, size = (squares(t, lengths).sqrt() for t in (seen.params, seen.direction()))
        least = least_norms(norm, usual)
        losses = torch.where(seen.losses <= 0, 1.0, seen.losses).double()
        size = _first_size(norm, size, least).double()
        _, scale = self.integrator.begin(TENSORS, losses, size, seen.total_steps)
        return torch.stack(scale, 1), least

    def _follow_copies(
        self, weights: Tensors, state: SelfTuningState, step: int, total_steps: int
    ) -> tuple[Tensor, Tensors]:
        """Return the integrator's numbers and the memory of the step after `step`."""
        by = columns(*weights, state.scale, state.last, *state.memory)
        own, copies = self._own, len(state.last)
        with np.errstate(all="ignore"):  # infinities and NaN are part of the arithmetic
            scale = Scale(*by.apart(state.scale))
            loss, *numbers = by.apart(state.last)
            found = (loss, *signals_of(numbers, by.ops.sqrt))
            loss, *numbers = (by.ops.finite(number, _HUGE) for number in found)
            loss = by.ops.pick(loss, loss, by.ops.exp(scale.level))
            now = Moment(loss, step, total_steps, Signals(*numbers))
            x, memory = self.features.side_by_side(by, now, state.memory[:own], copies)
            x = (x * x.new_tensor(self._factors)).to(weights[0])
            outputs, kept = vmap(self.net.scores)(weights, x, state.memory[own:])
            _, scale = self.integrator.step(by.ops, scale, now, *by.apart(outputs.double()))
        return by.together(scale, copies), memory + kept

    @cached_property
    def _own(self) -> int:
        return len(self.features.init())  # tensors of the memory; the others belong to the network

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


def _seen(view: StepView, found: Tensor) -> Any:
    """Return the loss and the totals: numbers, or a tensor whose copy to the host has started."""
    if host.is_near(found):
        return (view.loss_item(), *found.tolist())
    loss = view.loss.reshape(1).to(found, non_blocking=True)
    return host.send(torch.cat((loss, found)))


def _finite_numbers(numbers: Sequence[float]) -> list[float]:
    loss, *others = numbers
    found = [loss, *signals_of(others)]
    if math.isfinite(sum(found)):
        return found
    return [number if math.isfinite(number) else _HUGE for number in found]


def _first_size(norm: Tensor, size: Tensor, least: Tensor) -> Tensor:
    """Return the size of the first update in units of the weights; 1 if there is none."""
    found = (size / torch.maximum(norm, least)).square().mean(-1).sqrt()
    found = torch.nan_to_num(found, _HUGE, _HUGE, _HUGE)
    return torch.where(found > 0, found, 1.0)


def _smoothed(average: Tensor, weights: Tensor, total_steps: int) -> Tensor:
    return torch.lerp(average, weights, 1 / (share_of_run(total_steps) + 1))
