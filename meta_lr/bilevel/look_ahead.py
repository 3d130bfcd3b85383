"""An unroll as a pure function: training steps from a run's present point, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from meta_lr import vectors
from meta_lr.optim import rules
from meta_lr.optim.rules import PureStep
from meta_lr.protocol import Average, Controller, Need, StepView, groups_of_params, params_of

T = TypeVar("T")


class Point(NamedTuple):
    """Everything that the later steps depend on."""

    params: tuple[Tensor, ...]  # in the optimizer's group order
    slots: tuple[Mapping[str, Any], ...]  # the optimizer's state of each parameter
    buffers: Mapping[str, Tensor]
    state: Any  # the controller's


@dataclass(frozen=True)
class Reads:
    """Placeholder controller that only declares `needs`."""

    needs: Need

    def init(self) -> tuple[()]:
        """Return an empty state."""
        return ()

    def __call__(self, view: StepView, state: tuple[()]) -> tuple[float, tuple[()]]:
        """Return a learning rate of zero."""
        return 0.0, state


class LookAhead:
    """Training steps from the present point of a run; the run itself does not change.

    The first step repeats the run's own (same batch, same dropout mask). The other steps take new
    training batches. The controller is called as in the run. Each step is therefore a function of
    the point before it and of the controller's weights.

    Args:
        controller: Gives the learning rates.
        view: View of the run's present step, with a sandbox and the parameters.

    Raises:
        ValueError: The optimizer, or an option of it, has no exact differentiable rule.
    """

    def __init__(self, controller: Controller, view: StepView) -> None:
        self.controller, self.view, self.sandbox = controller, view, view.sandbox
        optimizer = self.sandbox.optimizer
        self._rule = rules.rule_of(optimizer)
        self._groups, self._scales = zip(*groups_of_params(optimizer), strict=True)
        self._trained = [p.requires_grad for p in params_of(optimizer)]

    def start(self, state: Any) -> Point:
        """Return the present point of the run."""
        params = params_of(self.sandbox.optimizer)
        slots = tuple(dict(self.sandbox.optimizer.state.get(p, {})) for p in params)
        buffers = dict(self.sandbox.model.named_buffers())
        return detached(Point(tuple(params), slots, buffers, state))

    def step(self, point: Point, k: int, *, second_order: bool) -> Point:
        """Return the point after the k-th step, with a graph to `point` and to the controller.

        Args:
            point: The point where the step begins; its parameters require gradients. Parameters
                that are frozen in the run do not change.
            k: Number of steps taken before, from 0.
            second_order: Whether the gradient is also differentiable.
        """
        buffers = mapped(dict(point.buffers), torch.clone)
        pairs = zip(point.params, self._trained, strict=True)
        params = [p if trains else p.detach() for p, trains in pairs]
        loss = self.sandbox.loss_with(params, buffers, "train", k - 1 if k else None)
        grads = clipped(_slopes(loss, params, second_order=second_order), self.sandbox.clip)
        step = PureStep(self._rule, params, grads, point.slots, self._groups)
        lr, state = ask(self.controller, self.view, k, loss, step, point.state)
        params, slots = step.take([lr * scale for scale in self._scales])
        return Point(tuple(params), tuple(slots), buffers, state)

    def score(self, point: Point, left: int) -> Tensor:
        """Return the meta loss () at a point; `left` steps of the unroll remain after it."""
        return self.meta_loss(point, left)

    def meta_loss(self, point: Point, draw: int) -> Tensor:
        """Return the loss () at a point on the draw-th batch of split "meta"."""
        buffers = mapped(dict(point.buffers), torch.clone)
        return self.sandbox.loss_with(point.params, buffers, "meta", draw)


def _slopes(loss: Tensor, params: Sequence[Tensor], *, second_order: bool) -> list[Tensor | None]:
    """Return the gradient of each parameter; None if the loss does not depend on it."""
    wanted = [p for p in params if p.requires_grad]
    found = torch.autograd.grad(
        loss, wanted, create_graph=second_order, retain_graph=True, allow_unused=True
    )
    slopes = iter(found)
    return [next(slopes) if p.requires_grad else None for p in params]


def ask(
    controller: Controller, view: StepView, k: int, loss: Tensor, step: PureStep, state: Any
) -> tuple[float | Tensor, Any]:
    """Return the controller's learning rate for a step of the unroll, and its next state.

    The step is `k` steps after the step of `view`; `loss` () is its loss.
    """
    present = [
        torch.zeros_like(p) if g is None else g
        for p, g in zip(step.params, step.grads, strict=True)
    ]
    there = view.later(
        controller, k, loss=loss, params=step.params, grads=present, direction=step.direction
    )
    lr, state = controller(there, state)
    if isinstance(lr, Average):
        raise ValueError(f"{type(controller).__name__} averages weights; not unrolled")
    return lr, state


def clipped(grads: Sequence[Tensor | None], largest: float | None) -> list[Tensor | None]:
    """Return the gradients, scaled as by `torch.nn.utils.clip_grad_norm_`; differentiable."""
    present = [g for g in grads if g is not None]
    if largest is None or not present:
        return list(grads)
    factor = torch.clamp(largest / (vectors.norm(present) + 1e-6), max=1.0)
    return [g if g is None else g * factor for g in grads]


def detached(point: Point) -> Point:
    """Return a copy of `point` in its own memory, without a graph."""
    return mapped(point, lambda t: t.detach().clone())


def as_leaves(point: Point) -> Point:
    """Return `point`; the tensors that a gradient can flow through are leaves of a new graph."""
    return point._replace(
        params=mapped(point.params, _leaf),
        slots=tuple(
            {k: v if k == "step" else mapped(v, _leaf) for k, v in slot.items()}
            for slot in point.slots
        ),
        state=mapped(point.state, _leaf),
    )


def flowing(point: Point) -> list[Tensor]:
    """Return the tensors that a gradient can flow through, in a fixed order.

    Buffers and counts are left out.
    """
    slots = [{k: v for k, v in slot.items() if k != "step"} for slot in point.slots]
    tensors: list[Tensor] = []
    mapped((point.params, tuple(slots), point.state), tensors.append)
    return [t for t in tensors if t.is_floating_point()]


def _leaf(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def mapped(value: T, act: Callable[[Tensor], Any]) -> T:
    """Return nested tuples and dicts with `act` applied to each tensor in them."""
    if isinstance(value, Tensor):
        return act(value)
    if isinstance(value, dict):
        return {k: mapped(v, act) for k, v in value.items()}  # pyright: ignore[reportReturnType]
    if isinstance(value, tuple):
        items = [mapped(item, act) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)  # pyright: ignore[reportReturnType]
    return value
