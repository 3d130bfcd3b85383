"""The average of the last weights, for all copies of a problem at once.

The formula is that of `meta_lr.training.average`, with the default of the `dog` package. So DoG and
our schedules are averaged in the same way.
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
    """Return all copies at the end of the run: with their last weights, and with the average."""
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
