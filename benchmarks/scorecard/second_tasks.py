"""Fine-tuning: a network is trained on one task, and then on a second one with few examples.

In "classes" the first task is the digits 0 to 4, and the second one is the digits 5 to 9. In
"noise" the second task adds noise to the images. In "labels" it permutes the class labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.scorecard import average, steering, tasks
from benchmarks.scorecard.finals import bound, bounded
from benchmarks.scorecard.larger_tasks import OPTIMIZERS
from benchmarks.scorecard.steering import Outcome, Steering
from benchmarks.scorecard.tasks import ArrayTask
from benchmarks.scorecard.tuned import AVERAGED
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.draw import Draw
from meta_lr.bilevel.problems import Problem
from meta_lr.seeds import derive, generator
from meta_lr.tasks.models.mlp import MLP
from meta_lr.tasks.models.small import SmallConv
from meta_lr.vectors import Tensors

FIRST_STEPS, FIRST_DECADE = 400, 0.0  # of the first task: a cosine with this peak
LENGTHS, EXAMPLES = (60, 240), (100, 400)  # of the second task: steps, training examples
NEW, OLD, BEFORE = "new", "old", "before"  # the old task is measured before and after
_BATCH = 32

Data = tuple[Tensor, Tensor]

_SHAPE = {"in_channels": 1, "image_size": 8, "num_classes": 10}
_MLP = partial(MLP, hidden=(64, 64), **_SHAPE)
_CONV = partial(SmallConv, channels=(8, 16), normalised=True, **_SHAPE)
KINDS: tuple[tuple[Callable[[], nn.Module], str], ...] = (
    (_MLP, "sgd_momentum"),
    (_CONV, "adamw"),
    (_MLP, "adamw"),
    (_CONV, "sgd_momentum"),
)


def _classes() -> tuple[Data, Data]:
    images, labels = tasks.digits()
    first = labels < 5
    return (images[first], labels[first]), (images[~first], labels[~first])


def _noise() -> tuple[Data, Data]:
    images, labels = tasks.digits()
    noise = torch.randn(images.shape, generator=generator(0, "fine-tuning", "noise"))
    return (images, labels), (images + noise, labels)


def _labels() -> tuple[Data, Data]:
    images, labels = tasks.digits()
    return (images, labels), (images, (labels + 1) % 10)


CHANGES: dict[str, Callable[[], tuple[Data, Data]]] = {
    "classes": _classes,
    "noise": _noise,
    "labels": _labels,
}


def first(change: str, number: int, seed: int) -> Problem:
    """Return the first task, from scratch; the seed determines the weights and the batches."""
    return _problem(CHANGES[change]()[0], f"{change}-{number}", number, seed, FIRST_STEPS)


def second(change: str, number: int, seed: int) -> Problem:
    """Return the second task; it starts with the last weights of the first one."""
    draw = Draw(generator(0, "fine-tuning", change, number))
    data = _few(CHANGES[change]()[1], draw.log_integer(EXAMPLES))
    made = _problem(data, f"{change}-{number}-second", number, seed, draw.log_integer(LENGTHS))
    task, weights = _array(made), trained(change, number, seed)
    return made._replace(task=replace(task, network=partial(_loaded, task.network, weights)))


@lru_cache(maxsize=16)
def trained(change: str, number: int, seed: int) -> Tensors:
    """Return the weights at the end of the first task."""
    problem = first(change, number, seed)
    by = steering.cosine(FIRST_DECADE, problem.unit)
    copies = Copies(problem, by.schedule, 1)
    end = copies.run(copies.start(), by.phi, 0, problem.total_steps)
    return tuple(tensor[0] for tensor in end.params)


def run(change: str, number: int, seed: int, by: Steering) -> Outcome:
    """Return the losses on both tasks after fine-tuning, and on the old task before it."""
    problem = second(change, number, seed)
    old, new = first(change, number, seed), Copies(problem, by.schedule, 1)
    before, worst = Copies(old, by.schedule, 1), bound(problem)
    end, averaged = average.run(new, by.phi)
    points = {
        NEW: new.mean_loss(end, "val"),
        NEW + AVERAGED: new.mean_loss(averaged, "val"),
        OLD: before.mean_loss(end, "val"),
        OLD + AVERAGED: before.mean_loss(averaged, "val"),
        BEFORE: before.mean_loss(new.start(), "val"),
    }
    return {place: bounded(losses, worst)[0] for place, losses in points.items()}


def _problem(data: Data, name: str, number: int, seed: int, steps: int) -> Problem:
    network, kind = KINDS[number % len(KINDS)]
    make, unit = OPTIMIZERS[kind]
    drawn = derive(seed, "fine-tuning", name)
    task = ArrayTask(name, *data, network, F.cross_entropy, _BATCH, drawn)
    return Problem(name, task, partial(make, lr=unit), steps, family=kind, unit=unit)


def _few(data: Data, count: int) -> Data:
    """Return the data with `count` training examples, repeated; `val` does not change."""
    size = len(data[0])
    places, first_val = torch.arange(size), size * 4 // 5
    places[:first_val] %= count
    return data[0][places], data[1][places]


def _array(problem: Problem) -> ArrayTask:
    assert isinstance(problem.task, ArrayTask)
    return problem.task


def _loaded(network: Callable[[], nn.Module], weights: Tensors) -> nn.Module:
    model = network()
    with torch.no_grad():
        torch._foreach_copy_(list(model.parameters()), list(weights))
    return model
