"""Recommendation: the best policies for a problem, from stored results and from a search."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meta_lr.lrbench.known import Known, by_policy
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.search import search
from meta_lr.lrbench.space import Space
from meta_lr.lrbench.trainer import Trainer
from meta_lr.methods.policies.text import from_label, label
from meta_lr.protocol import Controller


@dataclass(frozen=True)
class Recommendation:
    """The policies of the final comparison, and the results of the search.

    Attributes:
        ranked: Each policy with its results, one per seed; the best first.
        found: The results of the search, in the order of the trials.
    """

    ranked: tuple[Known, ...]
    found: tuple[Result, ...]

    @property
    def search_cost(self) -> float:
        """Cost of the search, in plain steps."""
        return sum(result.cost for result in self.found)

    @property
    def finals_cost(self) -> float:
        """Cost of the comparison, in plain steps."""
        return sum(result.cost for known in self.ranked for result in known.results)


def recommend(
    train: Trainer,
    space: Space | None,
    *,
    folder: Path,
    known: Sequence[Result] = (),
    target: float | None = None,
    trials: int = 27,
    halving: int = 3,
    finalists: int = 3,
    search_seed: int = 100,
    seeds: Sequence[int] = (0, 1, 2),
) -> Recommendation:
    """Search policies with one seed, then compare the best found and known ones on other seeds.

    The order is by cost to the target, then accuracy (or loss), then loss difference, all on "val".
    Each trial is kept in `folder/search/trial-<n>`. Each run of the comparison is trained to its
    end, and kept in `folder/finals/<hash>/seed-<m>`.

    Args:
        train: Trains; its budget is a run's length.
        space: The search space; None if `trials` is 0.
        folder: Where all runs are kept.
        known: Stored results of this problem. Their policies that met the target are compared, or
            else the best one.
        target: An accuracy in (0, 1], or a loss, on "val".
        trials: Number of policies that the search tries; 0 uses only the known ones.
        halving: See `meta_lr.lrbench.search.search`.
        finalists: Number of policies of the search that are compared; also the largest number of
            known ones.
        search_seed: Seed of the search.
        seeds: Seeds of the comparison.

    Raises:
        ValueError: Optuna is not installed, the search seed is also a seed of the comparison, or
            there is nothing to compare.
    """
    if search_seed in seeds:
        raise ValueError(f"the search's seed {search_seed} is one of seeds; search with another")
    options = {"target": target, "trials": trials, "halving": halving, "seed": search_seed}
    found: list[Result] = []
    if space is not None and trials:
        found = search(train, space, folder=folder / "search", **options)
    best = [*by_policy(found, target)[:finalists], *_good(by_policy(known, target))[:finalists]]
    good = dict.fromkeys(one.policy for one in best if one.score > -math.inf)
    policies = [policy for policy in map(from_label, good) if policy is not None]
    if not policies:
        why = "every run of the search diverged; lower k1" if found else "no policy is known"
        raise ValueError(f"there is nothing to recommend: {why}")
    finals = [
        train(policy, folder / "finals" / _hash(policy) / f"seed-{seed}", seed=seed, test=True)
        for policy in policies
        for seed in seeds
    ]
    return Recommendation(tuple(by_policy(finals, target)), tuple(found))


def _good(known: Sequence[Known]) -> Sequence[Known]:
    return [one for one in known if one.met] or known[:1]


def _hash(policy: Controller) -> str:
    return hashlib.blake2b(label(policy).encode(), digest_size=4).hexdigest()
