"""A policy at another base learning rate: for LRBench's robustness metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from meta_lr.methods.wrappers import Wrapper, times
from meta_lr.protocol import Controller, Rate, StepView


@dataclass(frozen=True)
class Scaled(Wrapper):
    """Another controller's learning rate times a factor, to repeat a run at other base rates.

    Update:
        rate(t) = factor * inner(t)
    Reference:
        Wu et al. 2019, arXiv 1908.06477; the factors are `metrics.SCALES`
    Deviations:
        none
    Cost:
        that of the inner controller

    >>> from meta_lr.methods.basic import Constant
    >>> scaled = Scaled(Constant(0.2), 5.0)
    >>> scaled(StepView(scaled, 0), scaled.init())[0]
    1.0
    """

    inner: Controller
    factor: float

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ValueError(f"Scaled got factor={self.factor}; it needs a finite number > 0")

    def __call__(self, view: StepView, state: Any) -> tuple[Rate, Any]:
        """Return the learning rate of this step, and the inner controller's next state."""
        rate, state = self.inner(view, state)
        return times(rate, self.factor), state
