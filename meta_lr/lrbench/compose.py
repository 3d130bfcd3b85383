"""Composition: a composite policy built by trials, compared with alternatives of equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from meta_lr.lrbench.known import by_policy
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.trainer import Trainer
from meta_lr.methods.policies.change_on_plateau import ChangeOnPlateau
from meta_lr.methods.policies.compose_on_plateau import ComposeOnPlateau
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.text import from_label, label
from meta_lr.methods.wrappers import Composite
from meta_lr.protocol import Controller
from meta_lr.records.reader import read_record
from meta_lr.records.rows import Row

COMPOSED, SINGLE = "composed", "best single policy"
RANDOM, CHANGED = "best random composite", "change_on_plateau"
_MOST_PARTS = 4  # largest number of parts in a random composite


@dataclass(frozen=True)
class Entry:
    """One method of the comparison.

    Attributes:
        name: Name of the method.
        controller: The controller that chose the learning rates.
        search_cost: Cost of the search for it, in plain steps.
        results: Results of the runs with it, one per seed.
    """

    name: str
    controller: Controller
    search_cost: float
    results: tuple[Result, ...] = ()


@dataclass(frozen=True)
class Composition:
    """A composite policy, its search, and its results.

    Attributes:
        policy: The composite.
        search: The rows of its search, see `ComposeOnPlateau`: each trial and each choice.
        entries: The composite and the alternatives, each with its runs.
    """

    policy: Policy | Composite
    search: tuple[Row, ...]
    entries: tuple[Entry, ...]


def compose(
    train: Trainer,
    composer: ComposeOnPlateau,
    *,
    folder: Path,
    target: float | None = None,
    spent: float = 0.0,
    search_seed: int = 100,
    seeds: Sequence[int] = (0, 1, 2),
) -> Composition:
    """Build a composite policy during one run, and compare it on other seeds.

    There are three alternatives. The first is the best candidate; each candidate is run to the end
    on the search seed. The second is the best random composite of the candidates; there are as many
    random composites as the cost of the composer's run allows. The third is `ChangeOnPlateau`,
    which chooses during each run. Choices are by cost to the target, then by the last value on
    "val". Runs are kept in `folder/search/...` and `folder/finals/<n>/seed-<m>`.

    Args:
        train: Trains; its budget is a run's length.
        composer: Chooses among its candidates during the run.
        folder: Where all runs are kept.
        target: An accuracy in (0, 1], or a loss, on "val".
        spent: Cost of the candidates, such as that of a range test, in plain steps.
        search_seed: Seed of all runs of the search.
        seeds: Seeds of the comparison.

    Raises:
        ValueError: The search seed is also a seed of the comparison.
    """
    if search_seed in seeds:
        raise ValueError(f"the search's seed {search_seed} is one of seeds; search with another")
    tried = folder / "search"
    facts = {"method": "compose_on_plateau"}
    first = train(composer, tried / "composed", seed=search_seed, facts=facts)
    rows = tuple(read_record(tried / "composed").searches)
    policy = composite_of(rows)
    number = max(1, int(first.cost // train.total_steps))
    rivals = random_composites(composer, train.total_steps, number, seed=search_seed)
    found = (
        Entry(COMPOSED, policy, first.cost),
        _best(train, SINGLE, candidates_of(composer), tried / "single", search_seed, target),
        _best(train, RANDOM, rivals, tried / "random", search_seed, target),
        Entry(CHANGED, _changing(composer), 0.0),
    )
    found = [replace(entry, search_cost=entry.search_cost + spent) for entry in found]
    entries = tuple(
        replace(entry, results=_finals(train, entry, folder / "finals" / str(index), seeds))
        for index, entry in enumerate(found)
    )
    return Composition(policy, rows, entries)


def candidates(k1: float, total_steps: int) -> list[Policy]:
    """Return policies of three families at three heights: k1, k1 / 4 and k1 / 16.

    At each height there are a constant, a triangle wave of twenty half cycles down to a fifth of
    the height, and a cosine that falls to a tenth within a quarter of the run. The lower heights
    are for later phases.
    """
    heights = [k1 / 4**i for i in range(3)]
    short, long = max(1, total_steps // 20), max(1, total_steps // 4)
    found: list[Policy] = []
    for height in (float(f"{height:.4g}") for height in heights):
        found.append(Policy("fix", height))
        found.append(Policy("tri", float(f"{height / 5:.4g}"), k1=height, l=short))
        found.append(Policy("cos", float(f"{height / 10:.4g}"), k1=height, l=long))
    return found


def candidates_of(composer: ComposeOnPlateau) -> list[Policy]:
    """Return a composer's candidates as policies."""
    return [policy for policy in composer.candidates if isinstance(policy, Policy)]


def composite_of(search: Sequence[Row]) -> Policy | Composite:
    """Return the policy that the rows of a composer's search chose."""
    chosen = [row for row in search if row["what"] == "choice" and row["policy"] is not None]
    parts = [policy for row in chosen if (policy := from_label(row["policy"])) is not None]
    return parts[0] if len(parts) == 1 else Composite([row["step"] for row in chosen[1:]], parts)


def random_composites(
    composer: ComposeOnPlateau, total_steps: int, number: int, *, seed: int
) -> list[Controller]:
    """Return composites of one to four random candidates with random boundaries."""
    choose, policies = np.random.default_rng(seed), candidates_of(composer)
    found: list[Controller] = []
    for _ in range(number):
        num_parts = int(choose.integers(1, min(_MOST_PARTS, total_steps) + 1))
        starts = sorted(choose.choice(np.arange(1, total_steps), num_parts - 1, replace=False))
        parts = [policies[index] for index in choose.integers(len(policies), size=num_parts)]
        found.append(Composite([int(s) for s in starts], parts) if starts else parts[0])
    return found


def _best(
    train: Trainer,
    name: str,
    controllers: Sequence[Controller],
    folder: Path,
    seed: int,
    target: float | None,
) -> Entry:
    results = [train(c, folder / str(i), seed=seed) for i, c in enumerate(controllers)]
    best = by_policy(results, target)[0].policy
    (first, *_) = (c for c in controllers if label(c) == best)
    return Entry(name, first, sum(result.cost for result in results))


def _changing(composer: ComposeOnPlateau) -> ChangeOnPlateau:
    """Return `ChangeOnPlateau` over the candidates; it begins a quarter down the list."""
    policies = sorted(candidates_of(composer), key=lambda p: -max(p.k0, p.k1 or 0.0))
    return ChangeOnPlateau(
        policies,
        start=min(len(policies) - 1, len(policies) // 4),
        check_every=composer.check_every,
        window=composer.patience,
        val_batches=composer.val_batches,
    )


def _finals(train: Trainer, entry: Entry, folder: Path, seeds: Sequence[int]) -> tuple[Result, ...]:
    facts = {"method": entry.name, "search_cost_before": entry.search_cost}
    return tuple(
        train(entry.controller, folder / f"seed-{seed}", seed=seed, test=True, facts=facts)
        for seed in seeds
    )
