"""Transfer: a learned schedule on a new task, compared with baselines and a control.

The baselines may be tuned. The control replays the learned run's mean learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from meta_lr.methods.basic import Constant
from meta_lr.methods.wrappers import Composite
from meta_lr.processes import from_first
from meta_lr.protocol import Controller
from meta_lr.records.reader import Record, read_record
from meta_lr.training.outcome import Outcome

LEARNED, CONTROL = "learned", "three_constants"


class Trainer(Protocol):
    """Trains the new task once; if the run is finished already, it is only read."""

    def __call__(
        self,
        method: str,
        folder: Path,
        *,
        seed: int,
        header: Mapping[str, object],
        peak: float | None = None,
        controller: Controller | None = None,
    ) -> Outcome:
        """Train with the method of this name and keep the record in `folder`.

        The data, the initial weights and the run length depend only on `seed`, so all methods
        share them.

        Args:
            method: Name of the method, also for the record.
            folder: Where the run is kept.
            seed: Seed of everything in the run.
            header: More fields for the record's first row.
            peak: The method's highest learning rate; None if the method sets its own.
            controller: Replaces the method of this name; the name is then only a label.
        """
        ...


@dataclass(frozen=True)
class Choice:
    """A baseline's peak, and the cost of choosing it.

    Attributes:
        peak: Highest learning rate; None for a method that sets its own.
        cost: Cost of all tuning runs, in plain steps.
        at_edge: Whether the chosen peak is the first or last of the grid. A wider grid may then
            give a better peak.
        tuned: Whether the peak was chosen by `tune`.
    """

    peak: float | None
    cost: float = 0.0
    at_edge: bool = False
    tuned: bool = False

    def header(self) -> dict[str, object]:
        """Return the header fields of this choice; "tuned" is None if there is no peak."""
        tuned = None if self.peak is None else self.tuned
        return {"search_cost_before": self.cost, "peak": self.peak, "tuned": tuned}


def compare(
    train: Trainer,
    baselines: Mapping[str, Choice],
    *,
    seeds: Sequence[int],
    folder: Path,
    origin: Mapping[str, object],
    control: bool = True,
) -> list[Outcome]:
    """Train with the learned schedule, the control and each baseline, for each seed.

    Each run is kept in `folder/<method>/seed-<n>`. A run that diverges is kept as well. Each
    record's header holds the method's `peak`, and whether it was `tuned`.

    Args:
        train: Trains once; knows "learned" and the names in `baselines`.
        baselines: Name of the baseline -> its peak.
        seeds: The seeds; each gives one run per method.
        folder: Where all runs are kept.
        origin: Header fields of the learned schedule: `checkpoint` (fingerprint),
            `meta_training_cost` (plain steps) and `peak` (its maximum learning rate; None
            if it finds its own learning rate).
        control: Whether to also replay the mean learning rate of each third of the learned run.
            The control is left out for a seed if a third of its learned run has no step.
    """
    tuned = None if origin.get("peak") is None else False
    outcomes, header = [], {**origin, "tuned": tuned}
    for seed in seeds:
        place = f"seed-{seed}"
        driven = folder / LEARNED / place
        outcomes.append(train(LEARNED, driven, seed=seed, header=header))
        replay = from_first(partial(_replayed, driven)) if control else None
        if replay is not None:
            copy = folder / CONTROL / place
            scale = {"peak": None, "tuned": None}
            outcomes.append(train(CONTROL, copy, seed=seed, header=scale, controller=replay))
        for name, choice in baselines.items():
            own = folder / name / place
            outcomes.append(train(name, own, seed=seed, header=choice.header(), peak=choice.peak))
    return outcomes


def tune(train: Trainer, method: str, peaks: Sequence[float], *, seed: int, folder: Path) -> Choice:
    """Return the peak with the best last value on `val`; among equal ones, the lowest peak.

    Each run is kept in `folder/<method>/peak-<p>`. A run that diverges counts as the worst.

    Args:
        train: Trains once.
        method: A baseline that takes a peak.
        peaks: The grid of peaks.
        seed: Seed of the tuning runs; different from the seeds of the comparison.
        folder: Where the runs are kept.

    Raises:
        ValueError: Every run diverged.
    """
    grid = sorted(set(peaks))
    outcomes = [
        train(
            method,
            folder / method / f"peak-{peak:g}",
            seed=seed,
            header=Choice(peak).header(),
            peak=peak,
        )
        for peak in grid
    ]
    scores = [_score(outcome) for outcome in outcomes]
    best = scores.index(max(scores))
    if scores[best] == -math.inf:
        raise ValueError(f"{method} diverged at every peak in {grid}; add lower ones to tune.peaks")
    at_edge = len(grid) > 1 and best in (0, len(grid) - 1)
    return Choice(grid[best], sum(outcome.cost for outcome in outcomes), at_edge, tuned=True)


def _replayed(folder: Path) -> Controller | None:
    """Return the control of the run in `folder`."""
    return three_constants(read_record(folder))


def three_constants(record: Record) -> Controller | None:
    """Return the control: three constants, the mean recorded learning rate of each third of a run.

    Return None if a third has no recorded step, because the run diverged before it or was too
    short.
    """
    total, steps = record.header["total_steps"], record.steps
    bounds = [-(-total * third // 3) for third in range(4)]  # rounded up, like the stages
    means = []
    for third in range(3):
        rates = [row["lr"] for row in steps if bounds[third] <= row["step"] < bounds[third + 1]]
        if not rates:
            return None
        means.append(Constant(sum(rates) / len(rates)))
    return Composite(tuple(bounds[1:3]), tuple(means))


def _score(outcome: Outcome) -> float:
    """Return the last value on `val`, larger is better; minus infinity for a run that diverged."""
    if outcome.status != "finished":
        return -math.inf
    return outcome.val.get("accuracy", -outcome.val["loss"])
