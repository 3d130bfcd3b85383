"""LRBench's seventh metric: how much a policy's accuracy depends on the base learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meta_lr.lrbench.metrics import SCALES, robustness
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.trainer import Trainer
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.text import label
from meta_lr.methods.wrappers import Composite, Wrapper, times
from meta_lr.protocol import Controller, Rate, StepView


@dataclass(frozen=True)
class Scaled(Wrapper):
    """Another controller's learning rate times a factor, to repeat a run at other base rates.

    Update:
        lr(t) = factor * inner(t)
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


def robustness_of(
    train: Trainer, policy: Policy | Composite, own: Result, folder: Path
) -> tuple[float | None, float]:
    """Return the mean change of "val" accuracy at 0.1, 0.5, 5 and 10 times the learning rate.

    A run that diverges counts as an accuracy of 0. Each run is kept in `folder/times-<factor>`.

    Args:
        train: Trains.
        policy: The policy.
        own: The result of the policy's own run; the four runs have the same seed.
        folder: Folder for only these runs.

    Returns:
        The robustness (None if the task has no accuracy), and the cost of the four runs.
    """
    accuracies, cost = {SCALES[0]: _accuracy(own)}, 0.0
    for factor in SCALES[1:]:
        facts = {"policy": label(policy), "scale": factor}
        place = folder / f"times-{factor:g}"
        result = train(Scaled(policy, factor), place, seed=own.seed, facts=facts)
        accuracies[factor] = _accuracy(result)
        cost += result.cost
    known = {factor: value for factor, value in accuracies.items() if value is not None}
    return robustness(known), cost


def _accuracy(result: Result) -> float | None:
    return 0.0 if result.diverged else result.val_accuracy
