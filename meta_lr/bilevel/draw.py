"""Random choices of an inner problem, a pure function of a generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


class Draw:
    """Draws values one after the other.

    Args:
        g: The generator that draws the values.
    """

    def __init__(self, g: torch.Generator) -> None:
        self.g = g

    def uniform(self, bounds: tuple[float, float]) -> float:
        """Return a number between the bounds."""
        low, high = bounds
        return low + (high - low) * torch.rand((), generator=self.g).item()

    def log(self, bounds: tuple[float, float]) -> float:
        """Return a number between the bounds, its logarithm uniform."""
        return math.exp(self.uniform((math.log(bounds[0]), math.log(bounds[1]))))

    def integer(self, bounds: tuple[int, int]) -> int:
        """Return a whole number from the first bound to the last."""
        return min(int(self.uniform((bounds[0], bounds[1] + 1))), bounds[1])

    def log_integer(self, bounds: tuple[int, int]) -> int:
        """Return a whole number between the bounds, its logarithm about uniform."""
        return min(max(round(self.log(bounds)), bounds[0]), bounds[1])

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options, all with equal probability."""
        return options[self.integer((0, len(options) - 1))]
