"""Online MLR-SNet: the network is meta-trained during the one run that it controls."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from meta_lr.bilevel.estimators import ClosedForm, Estimator, Unroll, refuse_cudnn
from meta_lr.bilevel.objectives import Final
from meta_lr.methods.features.features import Features
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma, refuse_useless
from meta_lr.methods.mlr_snet.learned import RAW, Learned, LearnedState
from meta_lr.methods.networks.network import Network, Start
from meta_lr.optim import rules
from meta_lr.protocol import Need, StepView
from meta_lr.seeds import derive
from meta_lr.vectors import Tensors


class OnlineState(NamedTuple):
    """The state of the method: phi, Adam's moments, the memory, and the stored snapshots."""

    phi: Tensors
    means: Tensors  # Adam's first moments, shaped like phi
    squares: Tensors  # Adam's second moments
    updates: Tensor  # number of updates of phi, ()
    memory: Tensors  # of the network, then of the features
    gamma: float  # 0.0 before the first step
    snapshots: tuple[Tensors, ...]
    low: float  # smallest and largest loss seen
    high: float


@dataclass(frozen=True)
class OnlineMLRSNet:
    """MLR-SNet: every T steps, update phi with the hypergradient of a K-step unroll.

    Update:
        every T steps: w_K(phi) = K training steps from w with the network's learning rates;
        phi <- Adam(phi, d L_meta(w_K(phi)) / d phi);
        each step: rate = gamma p(phi, features of the loss, memory).
    Reference:
        Shu, Zhu, Zhao, Meng & Xu (2020), arXiv 2007.14546; K = 1 there.
    Deviations:
        1. K may exceed 1. 2. The memory advances once per step. 3. Weight decay on phi is coupled
        L2, as published. 4. Meta data and training data are disjoint. 5. Steps are counted over the
        whole run. 6. Each update draws a new meta batch. 7. Features other than the raw loss are
        additions. `PaperMLRSNet` removes deviations 2, 5 and 6; a task's `meta_overlap` removes 4.
    Cost:
        per update the cost of the estimator: one step on a meta batch for K = 1, about 4 K steps
        for K > 1; one pass of the network per step.

    Args:
        net: The network.
        gamma: The maximum learning rate, or a formula for it.
        period: T, in steps; the paper's 300 is about one epoch of CIFAR-10.
        look_ahead: K, the unroll length in steps.
        meta_lr: Learning rate of Adam on phi.
        meta_weight_decay: L2 decay of phi.
        seed: Seed of phi's initial values.
        snapshots: Fractions of the run after which phi is kept as a stage of the checkpoint; the
            paper keeps phi after epochs 1, 100 and 200 of 200.
        estimator: Hypergradient estimator; None is `ClosedForm` for K = 1, `Unroll` for K > 1.
        start: Initialisation of phi, see `meta_lr.methods.networks.network.begin`.
        features: The inputs of the network; in the paper, only the loss.

    >>> from meta_lr.methods.networks.lstm import LSTM
    >>> OnlineMLRSNet(LSTM(hidden=4), gamma=1.0).init().updates
    tensor(0.)
    """

    net: Network
    gamma: float | InitialLossGamma = 0.2
    period: int = 100
    look_ahead: int = 1
    meta_lr: float = 1e-3
    meta_weight_decay: float = 1e-4
    seed: int = 0
    snapshots: tuple[float, ...] = (0.1, 0.5, 1.0)
    estimator: Estimator | None = None
    start: Start = "linear"
    features: Features = RAW

    def __post_init__(self) -> None:
        object.__setattr__(self, "snapshots", tuple(self.snapshots))  # configurations give lists
        if self.period < 1 or self.look_ahead < 1:
            raise ValueError(
                f"OnlineMLRSNet got period={self.period}, look_ahead={self.look_ahead}; "
                "both are at least 1 step"
            )
        if not callable(self._estimator):
            raise ValueError(
                f"{type(self._estimator).__name__} is for windows of inner problems, not for a "
                "look-ahead along a run; choose closed_form, unroll, adjoint or first_order"
            )
        if self.look_ahead > 1 and isinstance(self.estimator, ClosedForm):
            raise ValueError(
                f"ClosedForm looks 1 step ahead, not look_ahead={self.look_ahead}; "
                "choose unroll or adjoint"
            )
        refuse_useless(self.gamma)
        if not all(0.0 < f <= 1.0 for f in self.snapshots) or not self.snapshots:
            raise ValueError(f"snapshots={self.snapshots}; fractions of the run in (0, 1]")
        _ = self._learner  # refuses an unknown start, or features that do not fit the network

    @property
    def needs(self) -> Need:
        """The run length, a sandbox, and the needs of features and estimator."""
        return self._needs  # read at every step

    @cached_property
    def _needs(self) -> Need:
        return Need.META | Need.HORIZON | self.features.needs | self._estimator.needs

    @property
    def _estimator(self) -> Estimator:
        return self.estimator or (ClosedForm() if self.look_ahead == 1 else Unroll())

    @cached_property
    def _learner(self) -> Learned:
        """The network with its features and gamma = 1; the present phi is passed in."""
        return Learned(self.net, (self.net.init(0, self.start),), 1.0, features=self.features)

    def init(self) -> OnlineState:
        """Return an initial phi and zero moments."""
        phi = self.net.init(derive(self.seed, "phi"), self.start)
        memory = self._learner.init().memory
        zeros = tuple(torch.zeros_like(weight) for weight in phi)
        return OnlineState(
            phi, zeros, zeros, torch.tensor(0.0), memory, 0.0, (), math.inf, -math.inf
        )

    def __call__(self, view: StepView, state: OnlineState) -> tuple[float, OnlineState]:
        """Update phi if an update is due, then return the learning rate for this loss."""
        loss = view.loss_item()
        state = state._replace(low=min(state.low, loss), high=max(state.high, loss))
        if state.gamma == 0.0:
            state = self._begin(view, state, loss)
        if self._is_due(view):
            state = self._learn(view, state)
        due = sum(math.ceil(f * view.total_steps) <= view.step + 1 for f in self.snapshots)
        kept = state.snapshots + (state.phi,) * (due - len(state.snapshots))
        state = state._replace(snapshots=kept)
        p, memory = self._output(view, state)
        return state.gamma * float(p), state._replace(memory=memory)

    def num_updates(self, steps: int, steps_per_epoch: int) -> int:
        """Return the number of updates of phi in a run of `steps` steps."""
        return steps // self.period

    def export(self, state: OnlineState, *, family: str = "") -> Learned:
        """Return the network that was learned, one stage per snapshot."""
        stages = state.snapshots or (state.phi,)
        bounds = (state.low, state.high) if state.low <= state.high else None
        gamma = state.gamma
        return replace(self._learner, stages=stages, gamma=gamma, family=family, loss_range=bounds)

    def _output(self, view: StepView, state: OnlineState) -> tuple[Tensor, Tensors]:
        """Return the network's output () at this step, and the next memory."""
        total_steps = view.total_steps
        return self._learner.pure(
            state.phi, view.loss, state.memory, step=view.step, total_steps=total_steps
        )

    def _begin(self, view: StepView, state: OnlineState, loss: float) -> OnlineState:
        """Set gamma, and raise now for settings that an unroll would refuse later or not notice."""
        processes = view.sandbox.parts.processes
        if processes > 1 and not isinstance(self._estimator, ClosedForm):
            raise ValueError(
                f"look_ahead={self.look_ahead} differentiates several steps, which {processes} "
                "processes cannot share; choose look_ahead=1, or run it in one process"
            )
        if self.look_ahead > 1:
            rules.refuse_unsupported(view.sandbox.optimizer)
        if self._estimator.second_order:
            refuse_cudnn(view.sandbox.model)
        gamma = self.gamma(loss) if isinstance(self.gamma, InitialLossGamma) else self.gamma
        return state._replace(gamma=gamma)

    def _is_due(self, view: StepView) -> bool:
        return view.step % self.period == self.period - 1

    def _learn(self, view: StepView, state: OnlineState) -> OnlineState:
        phi = tuple(weight.detach().requires_grad_() for weight in state.phi)
        learner = replace(self._learner, stages=(phi,), gamma=state.gamma)
        weights = Final()(0, self.look_ahead)
        estimate = self._estimator(learner, LearnedState(state.memory), view, weights)
        return self._adam(state, estimate.grads)

    def _adam(self, state: OnlineState, grads: Tensors) -> OnlineState:
        group = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": self.meta_weight_decay}
        n, pairs = len(state.phi), zip(state.means, state.squares, strict=True)
        moments = [{"step": state.updates, "exp_avg": m, "exp_avg_sq": s} for m, s in pairs]
        step = rules.PureStep(rules.adam, state.phi, grads, moments, [group] * n)
        phi, after = step.take([self.meta_lr] * n)
        means, squares = (tuple(slot[key] for slot in after) for key in ("exp_avg", "exp_avg_sq"))
        return state._replace(
            phi=tuple(phi), means=means, squares=squares, updates=state.updates + 1
        )
