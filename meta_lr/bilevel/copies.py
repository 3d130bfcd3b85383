"""Many copies of one small inner problem side by side, each with its own schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from meta_lr import rules
from meta_lr.bilevel.look_ahead import Point, mapped
from meta_lr.bilevel.problems import Problem
from meta_lr.protocol import groups_of_params
from meta_lr.schedulers.network import Tensors
from meta_lr.schedulers.seen import Seen
from meta_lr.tasks.base import Batch, Split
from meta_lr.training.sandbox import LossModule


class Schedule(Protocol):
    """A schedule as a pure function of its weights; `Learned` and `SelfTuning` are such."""

    def init(self) -> Any:
        """Return its state before the first step: a NamedTuple."""
        ...

    def side_by_side(self, weights: Tensors, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return the learning rates (copies,) and the next state, in torch operations throughout.

        Args:
            weights: Each with a first dimension for the copy.
            seen: The step of all copies.
            state: Each tensor with a first dimension for the copy.
        """
        ...


class Copies:
    """One inner problem, trained `count` times at once by `torch.func.vmap`.

    All copies start from the same weights and see the same batches, so they differ by what their
    schedules do alone (common random numbers).

    Args:
        problem: Its model has no buffers and no dropout.
        learner: Its weights are replaced by each copy's own.
        count: Number of copies.

    Raises:
        ValueError: The model has buffers (BatchNorm), or the optimizer no differentiable rule.
    """

    def __init__(self, problem: Problem, learner: Schedule, count: int) -> None:
        self.problem, self.learner, self.count = problem, learner, count
        self.model = problem.task.model().train()
        if any(True for _ in self.model.buffers()):
            raise ValueError(
                f"{problem.name}: its model has buffers, which copies side by side cannot have; "
                "choose a model without BatchNorm, or estimator=adjoint"
            )
        optimizer = problem.make_optimizer(list(self.model.parameters()))
        self._rule, self._groups = rules.rule_of(optimizer), groups_of_params(optimizer)
        self._lossy = LossModule(self.model, problem.task.loss)
        self._names = [f"model.{name}" for name, _ in self.model.named_parameters()]
        self._slopes = vmap(grad_and_value(self._loss), in_dims=(0, None))
        self._losses = vmap(self._loss, in_dims=(0, None))

    def start(self) -> Point:
        """Return the start of all copies; each tensor has a first dimension for the copy."""
        params = tuple(p.detach() for p in self.model.parameters())
        alike = mapped((params, self.learner.init()), self._spread)
        return Point(alike[0], tuple({} for _ in params), {}, alike[1])

    def run(self, point: Point, phi: Sequence[Tensor], start: int, steps: int) -> Point:
        """Return all copies after the steps from `start` on; the weights have a copy dimension."""
        for t in range(start, start + steps):
            batch = self.problem.task.batch("train", t)
            grads, losses = self._slopes(point.params, batch)
            direction = partial(self._direction, point, grads, t)
            seen = Seen(losses, point.params, grads, direction, t, self.problem.total_steps)
            rates, state = self.learner.side_by_side(tuple(phi), seen, point.state)
            params, slots = self._stepped(point, grads, rates, t)
            point = Point(params, slots, {}, state)
        return point

    def meta_losses(self, point: Point, index: int) -> Tensor:
        """Return each copy's loss (count,) on a batch of split "meta"."""
        return self._losses(point.params, self.problem.task.batch("meta", index))

    def mean_loss(self, point: Point, split: Split) -> Tensor:
        """Return each copy's mean loss (count,) over one pass of a split."""
        task = self.problem.task
        batches = [task.batch(split, i) for i in range(task.num_batches(split))]
        sizes = torch.tensor([float(len(batch[0])) for batch in batches])
        losses = torch.stack([self._losses(point.params, batch) for batch in batches])
        return (sizes[:, None] * losses).sum(0) / sizes.sum()

    def _spread(self, tensor: Tensor) -> Tensor:
        return tensor.expand(self.count, *tensor.shape).clone()

    def _loss(self, params: Sequence[Tensor], batch: Batch) -> Tensor:
        return functional_call(self._lossy, dict(zip(self._names, params, strict=True)), (batch,))

    def _direction(self, point: Point, grads: Sequence[Tensor], t: int) -> list[Tensor]:
        """Return what all copies' optimizers subtract per unit of their group's learning rate."""
        return [
            self._rule(p, g, {**slot, "step": torch.tensor(float(t))}, group)[0].value(p)
            for p, g, slot, (group, _) in zip(
                point.params, grads, point.slots, self._groups, strict=True
            )
        ]

    def _stepped(
        self, point: Point, grads: Sequence[Tensor], rates: Tensor, t: int
    ) -> tuple[tuple[Tensor, ...], tuple[Mapping[str, Any], ...]]:
        """Return all copies' parameters and slots after a step; the rules go element by element."""
        moved, kept, count = [], [], torch.tensor(float(t))
        for p, g, slot, (group, scale) in zip(
            point.params, grads, point.slots, self._groups, strict=True
        ):
            direction, new = self._rule(p, g, {**slot, "step": count}, group)
            moved.append(direction.apply(p, (rates * scale).view(-1, *[1] * (p.ndim - 1))))
            kept.append({key: value for key, value in new.items() if key != "step"})
        return tuple(moved), tuple(kept)
