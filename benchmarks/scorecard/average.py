"""An average of the last weights, which costs no training and needs no run length.

After step t the average moves towards the weights by (1 + g) / (t + g), with g = 8: most of it
comes from the last ninth of the run so far. It is the polynomial-decay average of Shamir and Zhang
(2013), with the default of the `dog` package, so that DoG and our schedules are averaged alike. In
a loop of your own it is `torch.optim.swa_utils.AveragedModel(model, avg_fn=average.of_model)`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.look_ahead import Point
from meta_lr.schedulers.network import Tensors

_G = 8.0


def share(step: int) -> float:
    """Return how far the average moves towards the weights after this step, counted from 1."""
    return (1 + _G) / (step + _G)


def of_model(average: Tensor, weights: Tensor, averaged: Tensor | int) -> Tensor:
    """Return the next average, as `AveragedModel` asks for it."""
    return average + share(int(averaged) + 1) * (weights - average)


def run(copies: Copies, phi: Sequence[Tensor]) -> tuple[Point, Point]:
    """Return all copies at the end of the run: with their weights, and with the average of them."""
    (ends,) = deque(along(copies, phi), maxlen=1)
    return ends


def along(copies: Copies, phi: Sequence[Tensor]) -> Iterator[tuple[Point, Point]]:
    """Yield the same after each step."""
    point = copies.start()
    average: Tensors = point.params
    for step in range(copies.problem.total_steps):
        point = copies.run(point, phi, step, 1)
        moved = torch._foreach_lerp(list(average), list(point.params), share(step + 1))
        average = tuple(moved)
        yield point, point._replace(params=average)
