"""The stored results of each policy on one problem, and the ranking of the policies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meta_lr.lrbench.forecast import error_of
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.store import Store


@dataclass(frozen=True)
class Known:
    """The results of the runs of a policy; the numbers are means over the runs.

    Attributes:
        policy: Label of the policy.
        results: The conclusive runs, see `by_policy`; all runs if none is conclusive.
        tells: Whether some run is conclusive.
        cost_to_target: In plain steps; inf unless each run met the target.
        steps_to_target: In optimizer steps; inf unless each run met the target.
        score: The last error on "val" (1 - accuracy, or the loss), negated; -inf if one diverged.
        loss_difference: Loss on "val" - training loss; inf if it is unknown.
    """

    policy: str
    results: tuple[Result, ...]
    tells: bool
    cost_to_target: float
    steps_to_target: float
    score: float
    loss_difference: float

    @property
    def met(self) -> bool:
        """Whether each run met the target."""
        return self.cost_to_target < math.inf

    @property
    def rank(self) -> tuple[float, ...]:
        """The sort key of policies, lowest first: cost, accuracy, loss difference."""
        return not self.tells, self.cost_to_target, -self.score, self.loss_difference


def by_policy(results: Sequence[Result], target: float | None = None) -> list[Known]:
    """Return a summary of the results of each policy on one problem, the best policy first.

    A run is conclusive if it met the target, reached its end, or diverged. A run that ended early,
    for another target or because of a forecast, is not conclusive for this target. If a policy has
    runs of several lengths, the length with the best results is used.

    Args:
        results: The results; those with another base learning rate are left out.
        target: An accuracy, or a loss, on "val"; without a target, there is no cost to the target.
    """
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        if result.scale == 1:
            groups.setdefault((result.policy, result.total_steps), []).append(result)
    known = [_summary(policy, group, target) for (policy, _), group in groups.items()]
    best: dict[str, Known] = {}
    for one in sorted(known, key=lambda one: one.rank):
        best.setdefault(one.policy, one)
    return list(best.values())


def stored(
    store: Store, *, task: str, model: str, optimizer: str, setting: str, budget: int
) -> list[Result]:
    """Return the stored results of a problem with a run length of at most `budget` steps."""
    found = store.find(task=task, model=model, optimizer=optimizer)
    return [
        result for result in found if result.setting == setting and result.total_steps <= budget
    ]


def _summary(policy: str, results: Sequence[Result], target: float | None) -> Known:
    telling = [result for result in results if _tells(result, target)]
    told = telling or results
    reached = [None if target is None else result.to_target(target) for result in told]
    steps, costs = zip(*((math.inf, math.inf) if at is None else at for at in reached), strict=True)
    differences = [result.val_loss_difference for result in told]
    return Known(
        policy,
        tuple(told),
        bool(telling),
        cost_to_target=_mean(costs),
        steps_to_target=_mean(steps),
        score=_mean([_score(result) for result in told]),
        loss_difference=_mean([math.inf if d is None else d for d in differences]),
    )


def _tells(result: Result, target: float | None) -> bool:
    if result.status == "finished" or result.diverged:
        return True
    return target is not None and result.to_target(target) is not None


def _score(result: Result) -> float:
    error = math.inf if result.diverged or not result.curve else error_of(result.curve[-1])
    return -math.inf if math.isnan(error) else -error


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
