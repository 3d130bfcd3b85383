"""Verification: does a policy reach a target within a budget, and what does it take to know?"""

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
    """Ends a run once its target is met, or out of reach by the forecast.

    Args:
        target: An accuracy in (0, 1], or a loss, on "val".
        total_steps: Length of the run.
        rates: Of its policy, if they can be known.
        examples: Of an evaluation; 0 where that is not known.
        gives_up: Whether a forecast may end it.
    """

    target: float
    total_steps: int
    rates: forecast.Rates | None = None
    examples: int = 0
    gives_up: bool = True

    def __call__(self, evaluations: Sequence[Row]) -> str | None:
        """Return why the run ends after these evaluations; None where it goes on."""
        curve = curve_of(evaluations)
        if to_target(curve, self.target) is not None:
            return f"{MET} at step {curve[-1].step}"
        best = self.at_best(curve) if self.gives_up else None
        if best is None:
            return None
        shown = f"{1 - best if curve[-1].accuracy is not None else best:.4f}"
        return f"{HOPELESS} at step {curve[-1].step}: at best {shown} by step {self.total_steps}"

    def at_best(self, curve: Sequence[Point]) -> float | None:
        """Return the lowest error within reach if it is not low enough, else None."""
        best = forecast.lowest_error(curve, self.total_steps, self.rates, examples=self.examples)
        if best is None or best <= forecast.error_at(self.target, curve):
            return None
        return best


@dataclass(frozen=True)
class Verdict:
    """Whether a policy met a target, seed by seed.

    Attributes:
        target: An accuracy, or a loss, on "val".
        results: One of each seed.
        better: Of known policies those that met the target at less cost; where the policy has not,
            and none has, those that came nearer. The best first, an entry for each policy.
    """

    target: float
    results: tuple[Result, ...]
    better: tuple[Known, ...] = ()

    @property
    def reached(self) -> tuple[tuple[int, float] | None, ...]:
        """For each seed the steps and the cost to the target; None where it was not met."""
        return tuple(result.to_target(self.target) for result in self.results)

    @property
    def met(self) -> bool:
        """Whether it was met with every seed."""
        return None not in self.reached

    @property
    def cost(self) -> float:
        """What it took to know, in plain steps."""
        return sum(result.cost for result in self.results)

    @property
    def saved(self) -> tuple[int, int]:
        """Steps of the budget that were not taken: as the target was met, and without hope."""
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
    """Train with each seed until the target is met, out of reach, or the budget is spent.

    Each run is kept in `folder/seed-<n>`.

    Args:
        train: Trains; its budget is the limit, and policies named as better are from its store.
        controller: The policy.
        target: An accuracy in (0, 1], or a loss, on "val".
        seeds: One run each.
        folder: Of this policy and target alone.
        gives_up: Whether a run ends early when a forecast says that it is hopeless.

    Raises:
        ValueError: The target is no accuracy, and the task has one.
    """
    rates = forecast.rates_of(controller, train.total_steps, train.steps_per_epoch)
    until = UntilDecided(target, train.total_steps, rates, train.val_examples, gives_up)
    results = tuple(
        train(controller, folder / f"seed-{seed}", seed=seed, until=until) for seed in seeds
    )
    known = _known(train, results[0])
    return Verdict(target, results, better_than(Verdict(target, results), known))


def better_than(verdict: Verdict, others: Sequence[Result]) -> tuple[Known, ...]:
    """Return the policies in `others` that do better than that of the verdict, the best first.

    Those that can be used, and of which some run tells: they met the target, for less if this one
    did too; or, where none has, they came nearer.
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
