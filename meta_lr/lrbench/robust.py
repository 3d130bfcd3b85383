"""The seventh metric of LRBench: how much a policy's accuracy depends on its base rate."""

from __future__ import annotations

from pathlib import Path

from meta_lr.lrbench.metrics import SCALES, robustness
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.scaled import Scaled
from meta_lr.lrbench.trainer import Trainer
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.text import label
from meta_lr.methods.wrappers import Composite


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
