"""A plain PyTorch loop for methods that are optimizers; it uses the same problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.scorecard.finals import Finals, bound, bounded, val_loss
from meta_lr.bilevel.problems import Problem


class Training(NamedTuple):
    """The parts of a method that the loop needs."""

    optimizer: Optimizer
    final: Callable[[], nn.Module]  # the model to evaluate at the end of the run
    after: Callable[[float], object] = lambda loss: None  # called after each step with its loss
    averages: bool = False  # whether the final weights are an average, so no step used them


_BATCHES = 50  # for the statistics of batch normalisation
Begin = Callable[[Problem, nn.Module], Training]


def train(problem: Problem, begin: Begin) -> Finals:
    """Train a problem with its own weights, batches and number of steps."""
    model, worst = problem.task.model().train(), bound(problem)
    training = begin(problem, model)
    for step in range(problem.total_steps):
        loss = problem.task.loss(model, problem.task.batch("train", step))
        training.optimizer.zero_grad()
        loss.backward()
        if not _finite(loss, model):
            return Finals([worst], [], worst)
        training.optimizer.step()
        training.after(loss.item())
    model = training.final()
    if training.averages:
        renew_statistics(problem, model)
    end = torch.tensor([val_loss(problem.task, model)])
    return Finals(bounded(end, worst), [], worst)


@torch.no_grad()
def renew_statistics(problem: Problem, model: nn.Module) -> None:
    """Measure the statistics of batch normalisation at these weights, on training batches."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over the batches
    model.train()
    for step in range(min(_BATCHES, problem.total_steps) if layers else 0):
        model(*problem.task.batch("train", step)[:1])


def _finite(loss: Tensor, model: nn.Module) -> bool:
    """Return whether a run can continue; some packages refuse a gradient that is not finite."""
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return all(bool(tensor.isfinite().all()) for tensor in (loss, *grads))
