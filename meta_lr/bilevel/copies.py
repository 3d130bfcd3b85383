"""Many parallel copies of one small inner problem, each with its own schedule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from meta_lr.bilevel.layout import layout
from meta_lr.bilevel.look_ahead import Point, mapped
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.schedules import Schedule, Seen
from meta_lr.optim import rules
from meta_lr.protocol import group_scales
from meta_lr.tasks.base import Batch, Split
from meta_lr.training.sandbox import LossModule
from meta_lr.vectors import Tensors


class Copies:
    """One inner problem, trained `count` times at once by `torch.func.vmap`.

    All copies start from the same weights and see the same batches. They differ only in their
    schedules (common random numbers).

    Args:
        problem: The inner problem; its model has no buffers and no dropout.
        learner: The schedule; each copy replaces its weights with its own.
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
                "choose a model without BatchNorm"
            )
        params = list(self.model.parameters())
        optimizer = problem.make_optimizer(params)
        trained = [[p for p in g["params"] if p.requires_grad] for g in optimizer.param_groups]
        scaled = zip(optimizer.param_groups, group_scales(optimizer), trained, strict=True)
        self._rule = rules.rule_of(optimizer)
        self._groups, self._scales, trained = zip(*(of for of in scaled if of[2]), strict=True)
        self._layout = layout(params, trained)
        self._lossy = LossModule(self.model, problem.task.loss)
        self._names = [f"model.{name}" for name, _ in self.model.named_parameters()]
        self._losses = vmap(self._loss, in_dims=(0, None))

    def start(self) -> Point:
        """Return the start of all copies; the first dimension of each tensor is the copy."""
        params = tuple(p.detach() for p in self.model.parameters())
        alike = mapped((params, self.learner.init()), self._spread)
        return Point(alike[0], tuple({} for _ in params), {}, alike[1])

    def run(self, point: Point, phi: Sequence[Tensor], start: int, steps: int) -> Point:
        """Return all copies after `steps` steps; the first dimension of `phi` is the copy."""
        way = self._layout
        at = point._replace(params=way.flat(point.params), slots=way.flat_slots(point.slots))
        for t in range(start, start + steps):
            at = self._step(at, tuple(phi), t)
        return at._replace(params=way.apart(at.params), slots=way.slots_apart(at.slots))

    def _step(self, at: Point, phi: Tensors, t: int) -> Point:
        """Return all copies after step `t`; parameters and slots are flat."""
        grads, losses = self._slopes(at.params, self.problem.task.batch("train", t))
        slots = [{**slot, "step": torch.tensor(float(t))} for slot in at.slots[: len(grads)]]
        step = rules.PureStep(self._rule, at.params[: len(grads)], grads, slots, self._groups)
        seen, total = self._layout.seen, self.problem.total_steps
        shown = Seen(
            *(losses, seen(step.params), seen(grads), lambda: seen(self._update(step))),
            *(t, total, self._layout.pieces),
        )
        lr, state = self.learner.side_by_side(phi, shown, at.state)
        params, slots = step.take([(lr * scale).unsqueeze(1) for scale in self._scales])
        kept = ({key: v for key, v in slot.items() if key != "step"} for slot in slots)
        frozen = slice(len(grads), None)
        return Point((*params, *at.params[frozen]), (*kept, *at.slots[frozen]), {}, state)

    def _update(self, step: rules.PureStep) -> list[Tensor]:
        return [d * scale for d, scale in zip(step.direction(), self._scales, strict=True)]

    def _slopes(self, flat: Sequence[Tensor], batch: Batch) -> tuple[Sequence[Tensor], Tensor]:
        """Return the flat gradients of all copies, and their losses (count,).

        Tensors without a parameter group are frozen and have no gradient.
        """
        leaves = [tensor.detach().requires_grad_() for tensor in flat]
        with torch.enable_grad():
            losses = self._losses(self._layout.apart(leaves), batch)
            # The copies are independent, so the gradient of the sum holds the gradient of each.
            trained = leaves[: len(self._groups)]
            grads = torch.autograd.grad(losses.sum(), trained, materialize_grads=True)
        return grads, losses.detach()

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
