"""Many copies of one small inner problem side by side, each with its own schedule."""

from __future__ import annotations

from collections.abc import Sequence
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
        self._rule = rules.rule_of(optimizer)
        self._groups, self._scales = zip(*groups_of_params(optimizer), strict=True)
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
            slots = [{**slot, "step": torch.tensor(float(t))} for slot in point.slots]
            step = rules.PureStep(self._rule, point.params, grads, slots, self._groups)
            update, total = partial(self._update, step), self.problem.total_steps
            seen = Seen(losses, point.params, grads, update, t, total)
            lr, state = self.learner.side_by_side(tuple(phi), seen, point.state)
            pairs = zip(point.params, self._scales, strict=True)
            lrs = [(lr * scale).view(-1, *[1] * (p.ndim - 1)) for p, scale in pairs]
            params, slots = step.take(lrs)
            kept = ({key: v for key, v in slot.items() if key != "step"} for slot in slots)
            point = Point(tuple(params), tuple(kept), {}, state)
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

    def _update(self, step: rules.PureStep) -> list[Tensor]:
        return [d * scale for d, scale in zip(step.direction(), self._scales, strict=True)]

    def _spread(self, tensor: Tensor) -> Tensor:
        return tensor.expand(self.count, *tensor.shape).clone()

    def _loss(self, params: Sequence[Tensor], batch: Batch) -> Tensor:
        return functional_call(self._lossy, dict(zip(self._names, params, strict=True)), (batch,))
