"""Verification: whether a policy reaches a target within a budget, at the lowest cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meta_lr.lrbench import forecast
from meta_lr.lrbench.known import Known, by_policy, stored
from meta_lr.lrbench.metrics import Point, curve_of, to_target
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.trainer import Trainer
from meta_lr.methods.policies.text import from_label
from meta_lr.protocol import Controller
from meta_lr.records.rows import Row

MET, HOPELESS = "target met", "hopeless"


@dataclass(frozen=True, eq=False)
class UntilDecided:
    """Ends a run when its target is met, or cannot be met according to the forecast.

    Args:
        target: An accuracy in (0, 1], or a loss, on "val".
        total_steps: Length of the run.
        rates: Learning rates of the policy, if they are known.
        examples: Number of examples in an evaluation; 0 if it is unknown.
        gives_up: Whether a forecast may end the run.
    """

    target: float
    total_steps: int
    rates: forecast.Rates | None = None
    examples: int = 0
    gives_up: bool = True

    def __call__(self, evaluations: Sequence[Row]) -> str | None:
        """Return why the run ends after these evaluations; None if it continues."""
        curve = curve_of(evaluations)
        if to_target(curve, self.target) is not None:
            return f"{MET} at step {curve[-1].step}"
        best = self.at_best(curve) if self.gives_up else None
        if best is None:
            return None
        shown = f"{1 - best if curve[-1].accuracy is not None else best:.4f}"
        return f"{HOPELESS} at step {curve[-1].step}: at best {shown} by step {self.total_steps}"

    def at_best(self, curve: Sequence[Point]) -> float | None:
        """Return the lowest error that the run may reach if it misses the target, else None."""
        best = forecast.lowest_error(curve, self.total_steps, self.rates, examples=self.examples)
        if best is None or best <= forecast.error_at(self.target, curve):
            return None
        return best


@dataclass(frozen=True)
class Verdict:
    """Whether a policy met a target, seed by seed.

    Attributes:
        target: An accuracy, or a loss, on "val".
        results: One result per seed.
        better: The known policies that met the target at a lower cost. If neither this policy nor
            any known one met it, the known policies that came closer. One entry per policy, the
            best first.
    """

    target: float
    results: tuple[Result, ...]
    better: tuple[Known, ...] = ()

    @property
    def reached(self) -> tuple[tuple[int, float] | None, ...]:
        """For each seed, the steps and the cost to the target; None if it was not met."""
        return tuple(result.to_target(self.target) for result in self.results)

    @property
    def met(self) -> bool:
        """Whether the target was met with every seed."""
        return None not in self.reached

    @property
    def cost(self) -> float:
        """Total cost of the verification, in plain steps."""
        return sum(result.cost for result in self.results)

    @property
    def saved(self) -> tuple[int, int]:
        """Saved steps of the budget: after the target was met, and after a forecast ended a run."""
        left = [(r.status, r.total_steps - r.steps) for r in self.results if not r.diverged]
        met = sum(steps for status, steps in left if status.startswith(MET))
        return met, sum(steps for status, steps in left if status.startswith(HOPELESS))


def verify(
    train: Trainer,
    controller: Controller,
    *,
    target: float,
    seeds: Sequence[int],
    folder: Path,
    gives_up: bool = True,
) -> Verdict:
    """Train with each seed until the target is met, cannot be met, or the budget is spent.

    Each run is kept in `folder/seed-<n>`.

    Args:
        train: Trains; its budget is the limit, and the better policies come from its store.
        controller: The policy.
        target: An accuracy in (0, 1], or a loss, on "val".
        seeds: The seeds, one run each.
        folder: Folder for only this policy and target.
        gives_up: Whether a run ends early if a forecast says that it cannot meet the target.

    Raises:
        ValueError: The target is no accuracy, but the task has accuracies.
    """
    rates = forecast.rates_of(controller, train.total_steps, train.steps_per_epoch)
    until = UntilDecided(target, train.total_steps, rates, train.val_examples, gives_up)
    results = tuple(
        train(controller, folder / f"seed-{seed}", seed=seed, until=until) for seed in seeds
    )
    known = _known(train, results[0])
    return Verdict(target, results, better_than(Verdict(target, results), known))


def better_than(verdict: Verdict, others: Sequence[Result]) -> tuple[Known, ...]:
    """Return the policies in `others` that are better than that of the verdict, the best first.

    Only usable policies with a conclusive run are returned. They met the target, at a lower cost if
    this policy met it too. If no policy met the target, they came closer to it.
    """
    (own,) = by_policy(verdict.results, verdict.target)
    cost = own.cost_to_target if verdict.met else math.inf
    found = [
        known
        for known in by_policy(others, verdict.target)
        if known.tells and known.policy != own.policy and from_label(known.policy) is not None
    ]
    cheaper = tuple(known for known in found if known.cost_to_target < cost)
    if verdict.met or cheaper:
        return cheaper
    return tuple(known for known in found if known.score > own.score)


def _known(train: Trainer, like: Result) -> list[Result]:
    if train.store is None:
        return []
    names = {name: getattr(like, name) for name in ("task", "model", "optimizer", "setting")}
    return stored(train.store, **names, budget=train.total_steps)
