"""Hypergradient estimators for a K-step unroll."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from meta_lr import vectors
from meta_lr.bilevel.adjoint import adjoint
from meta_lr.bilevel.look_ahead import LookAhead
from meta_lr.bilevel.schedules import Learner
from meta_lr.protocol import Need, StepView
from meta_lr.training.line import line


class Estimate(NamedTuple):
    """The objective of an unroll, and its gradient with respect to phi."""

    loss: float
    grads: tuple[Tensor, ...]  # shaped like phi


class Estimator(Protocol):
    """Estimates the hypergradient of an unroll that starts at a run's present step.

    The estimators that differentiate a training step twice (`Unroll`, `Adjoint`) need layers whose
    backward pass is differentiable. cuDNN's recurrent layers are not (see `refuse_cudnn`).
    """

    second_order: ClassVar[bool]  # whether a training step is differentiated twice

    @property
    def needs(self) -> Need:
        """The fields of the view that the estimator reads."""
        ...

    def __call__(
        self, learner: Learner, state: Any, view: StepView, weights: Sequence[float]
    ) -> Estimate:
        """Return the objective and its gradient.

        Args:
            learner: The controller with the meta-parameters phi.
            state: The learner's state before the present step.
            view: The view of the present step.
            weights: Weights of the meta losses after each step of the unroll; their number is K.
        """
        ...


@dataclass(frozen=True)
class ClosedForm:
    """One-step unroll in closed form: only the network is differentiated.

    Update:
        d L_meta(w - r(phi) d) / d phi = -<grad L_meta(w - r d), d> dr / dphi, with d the
        optimizer's direction, which does not depend on phi.
    Reference:
        Shu et al. (2020), arXiv 2007.14546: the closed form of their unrolled step
    Deviations:
        none: exact for K = 1; other K are not possible
    Cost:
        one step on a meta batch; the training gradient of the run is reused

    >>> ClosedForm()
    ClosedForm()
    """

    second_order: ClassVar[bool] = False

    @property
    def needs(self) -> Need:
        """The direction, the parameters and meta losses."""
        return Need.LOSS | Need.PARAMS | Need.DIRECTION | Need.META

    def __call__(
        self, learner: Learner, state: Any, view: StepView, weights: Sequence[float]
    ) -> Estimate:
        """Return the meta loss after one step, and its gradient."""
        if len(weights) != 1:
            raise ValueError(
                f"closed_form looks 1 step ahead, not {len(weights)}; choose unroll or adjoint"
            )
        with torch.enable_grad():
            rate = torch.as_tensor(learner(view.seen_by(learner), state)[0])
        with torch.no_grad():
            directions = line(view).step
            virtual = vectors.axpy(-rate.item(), directions, view.params)
        with torch.enable_grad():
            virtual = [p.requires_grad_() for p in virtual]
            loss = weights[0] * view.sandbox.meta_loss(virtual)
        slopes = torch.autograd.grad(loss, virtual, materialize_grads=True)
        slopes = view.sandbox.parts.means(slopes)
        grads = torch.autograd.grad(rate, learner.phi, -vectors.dot(slopes, directions))
        return Estimate(loss.item(), grads)


@dataclass(frozen=True)
class Unroll:
    """K steps through `higher`, with the whole graph in memory.

    Update:
        d/dphi of the weighted meta losses along K training steps; nothing is detached
    Reference:
        Grefenstette et al. (2019), arXiv 1910.01727: `higher`
    Deviations:
        none: exact
    Cost:
        about 4 K steps; memory for K graphs

    Raises:
        ValueError: When called: a recurrent layer would run in cuDNN (see `refuse_cudnn`).
    """

    second_order: ClassVar[bool] = True

    @property
    def needs(self) -> Need:
        """A private copy of the run (TRIALS)."""
        return Need.LOSS | Need.TRIALS

    def __call__(
        self, learner: Learner, state: Any, view: StepView, weights: Sequence[float]
    ) -> Estimate:
        """Return the objective and its gradient."""
        from meta_lr.bilevel.unroll import unroll  # `higher` is loaded only when it is used

        refuse_cudnn(view.sandbox.model)
        with torch.enable_grad(), view.sandbox.trial() as trial:
            loss = unroll(trial, learner, state, view, weights)
            return Estimate(loss.item(), torch.autograd.grad(loss, learner.phi))


class _WalkedBack:
    second_order: ClassVar[bool]

    @property
    def needs(self) -> Need:
        """Losses at other weights (META)."""
        return Need.LOSS | Need.META

    def __call__(
        self, learner: Learner, state: Any, view: StepView, weights: Sequence[float]
    ) -> Estimate:
        """Return the objective and its gradient."""
        if self.second_order:
            refuse_cudnn(view.sandbox.model)
        run, phi = LookAhead(learner, view), learner.phi
        with torch.enable_grad():
            start = run.start(state)
            loss, grads, _ = adjoint(run, start, phi, weights, second_order=self.second_order)
        return Estimate(loss, tuple(grads))


@dataclass(frozen=True)
class Adjoint(_WalkedBack):
    """K steps; the backward pass keeps the graph of one step at a time.

    Update:
        as `Unroll`, by the chain of the steps' vector-Jacobian products from the last step to the
        first, through weights, optimizer state, losses and the network's memory
    Reference:
        reverse-mode hypergradient with stored states: Franceschi et al. (2017), arXiv 1703.01785
    Deviations:
        none: exact
    Cost:
        about 4 K steps; memory for one graph, and K times weights, optimizer state and buffers

    Raises:
        ValueError: When called: a recurrent layer would run in cuDNN (see `refuse_cudnn`).
    """

    second_order: ClassVar[bool] = True


@dataclass(frozen=True)
class FirstOrder(_WalkedBack):
    """K steps without the Hessians: an approximation, exact only for K = 1.

    Update:
        as `Adjoint`, but the gradients of the steps are held constant, so a change of the weights
        affects later steps only through losses, decay and optimizer state
    Reference:
        the same approximation as in first-order MAML: Finn et al. (2017), arXiv 1703.03400
    Deviations:
        none
    Cost:
        about 2 K steps; memory as `Adjoint`
    """

    second_order: ClassVar[bool] = False


def refuse_cudnn(model: nn.Module) -> None:
    """Raise a ValueError if a recurrent layer would run in cuDNN: it has no second derivative.

    This concerns torch's LSTM, GRU and RNN on a CUDA device. torch itself raises only late in the
    backward pass: a NotImplementedError for `_cudnn_rnn_backward`. Inside
    `torch.backends.cudnn.flags(enabled=False)` torch uses its own kernels. They are slower, but
    can be differentiated twice.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.RNNBase) and any(
            map(torch.backends.cudnn.is_acceptable, layer.parameters())
        ):
            raise ValueError(
                f"the model's {type(layer).__name__} '{name}' runs in cuDNN, which has no second "
                "derivative, and unroll and adjoint need one; choose closed_form (one step ahead) "
                "or first_order, train on the CPU, or, in Python, train inside "
                "`with torch.backends.cudnn.flags(enabled=False):`"
            )
