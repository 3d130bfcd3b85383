"""Window lengths: the number of inner steps before each update of phi."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from meta_lr.seeds import generator


class Window(Protocol):
    """Gives each update its number of inner steps, a pure function of the update."""

    def __call__(self, update: int) -> int:
        """Return the length of the windows of update `update`, counted from 0."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Always the same number of steps.

    >>> Fixed(20)(3)
    20
    """

    steps: int = 50

    def __post_init__(self) -> None:
        _refuse(self.steps, self.steps)

    def __call__(self, update: int) -> int:
        """Return the fixed length."""
        return self.steps


@dataclass(frozen=True)
class LogUniform:
    """A new length for each update, drawn log-uniformly.

    Reference: Metz et al. (2022), arXiv 2211.09760, vary the length of their unrolls in this way.
    """

    low: int = 10
    high: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        _refuse(self.low, self.high)

    def __call__(self, update: int) -> int:
        """Return the draw of this update."""
        share = torch.rand((), generator=generator(self.seed, "window", update)).item()
        return round(math.exp((1 - share) * math.log(self.low) + share * math.log(self.high)))


@dataclass(frozen=True)
class Growing:
    """Lengths that grow geometrically from `low` to `high` over `updates` updates; then `high`.

    >>> [Growing(10, 1000, updates=2)(update) for update in (0, 1, 2, 9)]
    [10, 100, 1000, 1000]
    """

    low: int = 10
    high: int = 200
    updates: int = 500

    def __post_init__(self) -> None:
        _refuse(self.low, self.high)

    def __call__(self, update: int) -> int:
        """Return the length at this update."""
        share = min(update / self.updates, 1.0)
        return round(self.low * (self.high / self.low) ** share)


def _refuse(low: int, high: int) -> None:
    if not 1 <= low <= high:
        raise ValueError(f"a window from {low} to {high} steps; needed is 1 <= low <= high")
