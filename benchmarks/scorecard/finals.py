"""Results of runs: the log of the final validation loss, bounded for diverged runs."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.scorecard import average
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.schedules import Schedule
from meta_lr.tasks.base import Task
from meta_lr.vectors import Tensors

WORST = 3.0  # nats above the loss at the start: the result of a diverged run


class Finals(NamedTuple):
    """Logs of the final validation losses, nats, one per copy."""

    logs: list[float]
    averaged: list[float]  # the same at the average of the last weights; empty if there is none
    worst: float  # the result of a diverged run


def finals(problem: Problem, schedule: Schedule, phi: Tensors) -> Finals:
    """Train copies of a problem, one for each row of phi."""
    copies = Copies(problem, schedule, len(phi[0]))
    worst = bound(problem)
    ends = (copies.mean_loss(point, "val") for point in average.run(copies, phi))
    return Finals(*(bounded(losses, worst) for losses in ends), worst)


def bound(problem: Problem) -> float:
    """Return the result of a diverged run of a problem."""
    return math.log(val_loss(problem.task, problem.task.model())) + WORST


def bounded(losses: Tensor, worst: float) -> list[float]:
    """Return the logs of losses, each of them at most `worst`."""
    return losses.log().nan_to_num(nan=worst, posinf=worst).clamp(max=worst).tolist()


@torch.no_grad()
def val_loss(task: Task, model: nn.Module) -> float:
    """Return the mean loss over the split `val`."""
    model.eval()
    batches = [task.batch("val", index) for index in range(task.num_batches("val"))]
    total = sum(len(batch[0]) * task.loss(model, batch).item() for batch in batches)
    return total / sum(len(batch[0]) for batch in batches)
