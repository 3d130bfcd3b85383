"""The average of the last weights, of all copies of a problem in one go.

The formula is that of `meta_lr.training.average`, with the default of the `dog` package, so that
DoG and our schedules are averaged alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.look_ahead import Point
from meta_lr.training.average import share
from meta_lr.vectors import Tensors


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
