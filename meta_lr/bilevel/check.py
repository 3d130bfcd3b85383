"""Check of the hypergradient estimators on a user's own task, against central differences."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from meta_lr import vectors
from meta_lr.bilevel.estimators import Estimate, Estimator
from meta_lr.bilevel.look_ahead import Reads
from meta_lr.bilevel.schedules import Learner
from meta_lr.optim import rules
from meta_lr.protocol import Need, StepView, group_scales, params_of, set_rate
from meta_lr.seeds import generator, seed_model
from meta_lr.tasks.base import Batch, Split, Task
from meta_lr.training.sandbox import Sandbox
from meta_lr.training.step import gradient, update
from meta_lr.vectors import Tensors


class Row(NamedTuple):
    """The result of one estimator."""

    name: str
    error: float  # largest relative error of a directional derivative
    seconds: float
    megabytes: float  # peak memory of the graphs
    cost: float  # in plain training steps


# Everything that an estimator may read.
_READS = Reads(Need.LOSS | Need.PARAMS | Need.DIRECTION | Need.META | Need.TRIALS | Need.HORIZON)


class Waiting:
    """A run in float64 that is stopped after the gradient of its fourth step.

    Args:
        task: The task; its model and batches are converted to float64.
        make_optimizer: Makes the optimizer from the model's parameters.
        learner: The schedule whose meta-parameters are differentiated.
        clip: Largest norm of the gradient; None does not clip.
    """

    def __init__(
        self,
        task: Task,
        make_optimizer: Callable[[list[nn.Parameter]], Optimizer],
        learner: Learner,
        *,
        clip: float | None = None,
    ) -> None:
        self.task, self.model = task, task.model().double().train()
        self.optimizer = make_optimizer(list(self.model.parameters()))
        self.sandbox = Sandbox(self.model, self.optimizer, task.loss, self.batch, clip=clip, seed=0)
        self.phi = tuple(weight.double() for weight in learner.phi)
        self.learner = learner.differentiable(self.phi)
        set_rate(self.optimizer, 0.5 * learner.highest, group_scales(self.optimizer))
        for step in range(4):
            if step > 0:
                update(self.optimizer)
            self.sandbox.at(step)
            seed_model(0, "model", step)
            loss = task.loss(self.model, self.batch("train", step))
            self.loss = gradient(self.optimizer, [loss], clip)

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return the task's batch, in float64."""
        batch = self.task.batch(split, index, draw)
        return tuple(t.double() if t.is_floating_point() else t for t in batch)

    def estimate(
        self, estimator: Estimator, weights: Sequence[float], phi: Tensors | None = None
    ) -> Estimate:
        """Return the objective of an unroll, and its gradient."""
        phi = tuple(weight.detach().requires_grad_() for weight in phi or self.phi)
        view = StepView(
            _READS,
            3,
            total_steps=1000,
            loss=self.loss,
            params=params_of(self.optimizer),
            direction=lambda: rules.direction(self.optimizer),
            sandbox=self.sandbox,
        )
        learner = self.learner.differentiable(phi)
        return estimator(learner, _double(learner.init()), view, weights)

    def slopes(
        self, weights: Sequence[float], directions: Sequence[Tensors], by: Estimator
    ) -> list:
        """Return the directional derivatives in phi, by central differences."""
        size, found = 1e-5, []
        for direction in directions:
            up, down = (
                self.estimate(by, weights, tuple(vectors.axpy(h, direction, self.phi))).loss
                for h in (size, -size)
            )
            found.append((up - down) / (2 * size))
        return found


def check(
    run: Waiting,
    estimators: dict[str, Estimator],
    weights: Sequence[float],
    *,
    directions: int = 3,
    seed: int = 0,
) -> list[Row]:
    """Return a row per estimator; the central differences use the last estimator's objective."""
    ways = [_direction(run.phi, seed, index) for index in range(directions)]
    slopes = run.slopes(weights, ways, list(estimators.values())[-1])
    rows = []
    for name, estimator in estimators.items():
        before, start = run.sandbox.cost, time.perf_counter()
        grads = run.estimate(estimator, weights).grads
        seconds, cost = time.perf_counter() - start, run.sandbox.cost - before
        own = [vectors.dot(grads, way).item() for way in ways]
        errors = [abs(a - b) / max(abs(b), 1e-300) for a, b in zip(own, slopes, strict=True)]
        memory = graph_megabytes(lambda e=estimator: run.estimate(e, weights))
        rows.append(Row(name, max(errors), seconds, memory, cost))
    return rows


def graph_megabytes(act: Callable[[], object]) -> float:
    """Return the peak memory of the graphs that `act` makes, in megabytes."""
    held = most = 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor.detach()  # otherwise an output would keep itself alive

    def release(size: int) -> None:
        nonlocal held
        held -= size

    def pack(tensor: Tensor) -> Kept:
        nonlocal held, most
        kept, size = Kept(tensor), tensor.nbytes
        weakref.finalize(kept, release, size)
        held += size
        most = max(most, held)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        act()
    return most / 1e6


def _direction(phi: Tensors, seed: int, index: int) -> Tensors:
    g = generator(seed, "direction", index)
    return tuple(torch.randn(w.shape, generator=g, dtype=w.dtype) for w in phi)


def _double(state: Any) -> Any:
    return state._replace(memory=tuple(tensor.double() for tensor in state.memory))
