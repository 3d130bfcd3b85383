"""A policy search with Optuna: its TPE sampler chooses policies, successive halving ends runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from meta_lr.extras import explained
from meta_lr.lrbench.forecast import error_at, error_of
from meta_lr.lrbench.metrics import Point, curve_of, to_target
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.space import Space
from meta_lr.lrbench.trainer import Trainer
from meta_lr.lrbench.verify import MET
from meta_lr.records.rows import Row

if TYPE_CHECKING:
    from optuna.trial import Trial

PRUNED = "pruned"


def search(
    train: Trainer,
    space: Space,
    *,
    folder: Path,
    target: float | None,
    trials: int,
    halving: int,
    seed: int,
) -> list[Result]:
    """Return the results of a search, in trial order; each trial is kept in `folder/trial-<n>`.

    All trials have the same seed. A trial ends when it meets the target. At its two rungs,
    T / halving^2 and T / halving, successive halving decides whether it continues. If the search is
    repeated after an interruption, it reads the recorded runs again, and therefore makes the same
    choices.

    Args:
        train: Trains; its budget is T.
        space: The search space.
        folder: Folder for only this search.
        target: An accuracy or a loss on "val", to be met in as few steps as possible; None searches
            for the lowest error at the end.
        trials: Number of policies to try.
        halving: At a rung, one in `halving` trials continues; with 1 all trials continue.
        seed: Seed of the runs, and of the sampler.

    Raises:
        ValueError: Optuna is not installed, or a number is out of range.
    """
    if trials < 1 or halving < 1:
        raise ValueError(f"trials={trials}, halving={halving}; whole numbers >= 1 are needed")
    optuna, first = loaded(), max(1, train.total_steps // halving**2)  # the first rung
    pruner = optuna.pruners.NopPruner()
    if halving > 1:
        pruner = optuna.pruners.SuccessiveHalvingPruner(first, reduction_factor=halving)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    results, worst = [], -1.0
    for number in range(trials):
        trial = study.ask()
        ends = _UntilPruned(trial, target, first * halving**2, [])
        place = folder / f"trial-{number:03d}"
        result = train(space.choose(trial), place, seed=seed, until=ends)
        ends.hear(result.curve)  # the whole curve, if the run was only read
        if result.status.startswith(PRUNED):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, worst - 1 if result.diverged else _goodness(result, target))
            worst = min(worst, study.trials[-1].value)
        results.append(result)
    return results


@dataclass(frozen=True, eq=False)
class _UntilPruned:
    """Ends a run that met its target, or that the search prunes; use one object per run.

    Each point is reported to the search once, in order, whether the run is trained or only read.
    """

    trial: Trial
    target: float | None
    last: int  # there is no pruning from this step on
    heard: list[Point]

    def __call__(self, evaluations: Sequence[Row]) -> str | None:
        return self.hear(curve_of(evaluations))

    def hear(self, curve: Sequence[Point]) -> str | None:
        """Report each new point to the search; return why the run ends after the last, or None."""
        said = None
        for point in curve[len(self.heard) :]:
            self.heard.append(point)
            said = self._judged(point)
        return said

    def _judged(self, point: Point) -> str | None:
        if self.target is not None and to_target([point], self.target) is not None:
            return f"{MET} at step {point.step}"
        self.trial.report(-error_of(point), point.step)
        prunes = point.step < self.last and self.trial.should_prune()
        return f"{PRUNED} at step {point.step}" if prunes else None


def _goodness(result: Result, target: float | None) -> float:
    """Return the search objective; a run that met the target ranks above all that did not."""
    met = None if target is None else result.to_target(target)
    if met is None or target is None:
        return -error_of(result.curve[-1])
    return -error_at(target, result.curve) + 1 - met[0] / result.total_steps


def loaded() -> ModuleType:
    """Return the module Optuna, with its log level set to warnings."""
    with explained():
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
