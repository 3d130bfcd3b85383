"""What stored results say of each policy on one problem, and which is the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meta_lr.lrbench.forecast import error_of
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.store import Store


@dataclass(frozen=True)
class Known:
    """What the runs of a policy came to; means over them.

    Attributes:
        policy: Its label.
        results: The runs.
        cost_to_target: In plain steps; inf unless each run met the target.
        steps_to_target: In optimizer steps; inf likewise.
        score: The last error on "val" (1 - accuracy, or the loss), negated; -inf if one diverged.
        loss_difference: Loss on "val" - training loss; inf where it is not known.
    """

    policy: str
    results: tuple[Result, ...]
    cost_to_target: float
    steps_to_target: float
    score: float
    loss_difference: float

    @property
    def rank(self) -> tuple[float, float, float]:
        """What policies are compared by, the lowest first: cost, accuracy, loss difference."""
        return self.cost_to_target, -self.score, self.loss_difference


def by_policy(results: Sequence[Result], target: float | None = None) -> list[Known]:
    """Return what results of one problem say of each policy, the best first.

    Args:
        results: Those at another base rate are left out.
        target: An accuracy, or a loss, on "val"; without one, no cost to it is known.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result.scale == 1:
            groups.setdefault(result.policy, []).append(result)
    return sorted(
        (_summary(policy, group, target) for policy, group in groups.items()),
        key=lambda known: known.rank,
    )


def stored(
    store: Store, *, task: str, model: str, optimizer: str, setting: str, budget: int
) -> list[Result]:
    """Return the stored results of a problem that took no more than `budget` steps."""
    found = store.find(task=task, model=model, optimizer=optimizer)
    return [
        result for result in found if result.setting == setting and result.total_steps <= budget
    ]


def _summary(policy: str, results: Sequence[Result], target: float | None) -> Known:
    reached = [None if target is None else result.to_target(target) for result in results]
    steps, costs = zip(*((math.inf, math.inf) if at is None else at for at in reached), strict=True)
    differences = [result.val_loss_difference for result in results]
    return Known(
        policy,
        tuple(results),
        cost_to_target=_mean(costs),
        steps_to_target=_mean(steps),
        score=_mean([_score(result) for result in results]),
        loss_difference=_mean([math.inf if d is None else d for d in differences]),
    )


def _score(result: Result) -> float:
    return -math.inf if result.diverged or not result.curve else -error_of(result.curve[-1])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
