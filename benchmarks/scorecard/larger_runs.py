"""The runs of the larger tasks: one network at a time, in a plain loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.optim.swa_utils import AveragedModel

import meta_lr
from benchmarks.scorecard import plain
from benchmarks.scorecard.finals import bound, bounded, val_loss
from benchmarks.scorecard.larger_tasks import OPTIMIZERS, TASKS, Files, problem
from benchmarks.scorecard.peers import PEERS
from benchmarks.scorecard.tuned import WARM_UP
from meta_lr.annealing import cosine_share
from meta_lr.bilevel.problems import Problem
from meta_lr.methods.self_tuning.schedule import SelfTuning

DEFAULT = "torch's default"  # a cosine from torch's default learning rate of the optimizer
GRID = tuple(-2.5 + 0.5 * place for place in range(8))  # decades of the first seed's peaks
_NEAR = (-1.0, -0.5, 0.0, 0.5, 1.0)  # decades around the first seed's best, for other seeds
_LINES = (-0.5, 0.0, 0.5)  # decades around the best cosine, for lines
CHOSEN_PEERS = ("Prodigy + cosine", "Schedule-Free SGD", "Schedule-Free AdamW", "DoG + its average")
_DEFAULTS = {"sgd_momentum": 1e-3, "adamw": 1e-3}

Key = tuple[str, int, str]  # task and optimizer, seed, method
Rows = Mapping[Key, Mapping[str, Any]]


class Fixed(NamedTuple):
    """A warm-up, then a cosine or a line to zero."""

    shape: str
    peak: float
    total_steps: int

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step."""
        share = cosine_share(step, self.total_steps)
        share = 1 - step / self.total_steps if self.shape == "line" else share
        return self.peak * share * min(1.0, (step + 1) / (WARM_UP * self.total_steps))


def train(made: Problem, schedule: Fixed | SelfTuning) -> dict[str, Any]:
    """Return the log of the final `val` loss, bounded for a diverged run, and learning rates.

    For a learned schedule, also return the log at an average of the last weights.
    """
    model, task, worst = made.task.model().train(), made.task, bound(made)
    optimizer = made.make_optimizer(list(model.parameters()))
    scheduler = averaged = None
    if isinstance(schedule, SelfTuning):
        averaged = AveragedModel(model, avg_fn=meta_lr.polynomial_average)
        scheduler = meta_lr.ControlledLR(optimizer, schedule, total_steps=made.total_steps)
    lrs: list[float] = []
    for step in range(made.total_steps):
        loss = task.loss(model, task.batch("train", step))
        optimizer.zero_grad()
        loss.backward()
        if scheduler is not None:
            scheduler.observe(loss)
        elif isinstance(schedule, Fixed):
            optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        if averaged is not None:
            averaged.update_parameters(model)
    ends = [val_loss(task, model)]
    if averaged is not None:
        plain.renew_statistics(made, averaged.module)
        ends.append(val_loss(task, averaged.module))
    log, *more = bounded(torch.tensor(ends), worst)
    shown = [float(f"{lr:.4g}") for lr in lrs[:: max(1, len(lrs) // 50)]]
    return {"log": log, **({"averaged": more[0]} if more else {}), "lrs": shown}


def name_of(shape: str, decade: float) -> str:
    """Return the name of a tuned schedule; the decade is in plain SGD's unit."""
    return f"{shape} {decade:+.1f}"


def missing(
    rows: Rows,
    family: str,
    seed: int,
    schedules: Mapping[str, SelfTuning],
    peers: Sequence[str] = (),
) -> Iterator[Key]:
    """Yield the keys still to run for one task and seed; call it again after each run."""
    wanted = [name_of("cosine", decade) for decade in decades(rows, family, seed)]
    best = _best(rows, family, seed, wanted)
    if best is not None:
        wanted += [name_of("line", best + near) for near in _LINES]
    for method in (*schedules, DEFAULT, *peers, *wanted):
        if not _kept(rows.get((family, seed, method)), schedules.get(method)):
            yield family, seed, method


def decades(rows: Rows, family: str, seed: int) -> list[float]:
    """Return a seed's peaks: the grid and its extensions, or those near the first seed's best."""
    if seed > 0:
        first = [name_of("cosine", decade) for decade in decades(rows, family, 0)]
        best = _best(rows, family, 0, first)
        return [] if best is None else [best + near for near in _NEAR]
    grid = list(GRID)
    while (best := _best(rows, family, 0, [name_of("cosine", d) for d in grid])) is not None:
        if grid[0] < best < grid[-1] or len(grid) > 2 * len(GRID):
            break
        grid = [grid[0] - 0.5, *grid] if best == grid[0] else [*grid, grid[-1] + 0.5]
    return grid


def _best(rows: Rows, family: str, seed: int, names: list[str]) -> float | None:
    """Return the decade of the best of these, once all have run."""
    keys = [(family, seed, name) for name in names]
    if not keys or any(key not in rows for key in keys):
        return None
    return float(min(keys, key=lambda key: rows[key]["log"])[2].split()[1])


def _kept(row: Mapping[str, Any] | None, schedule: SelfTuning | None) -> bool:
    if row is None or schedule is None:
        return row is not None
    return "averaged" in row and row["fingerprint"] == schedule.fingerprint


def run(files: Files, key: Key, schedules: Mapping[str, SelfTuning]) -> dict[str, Any]:
    """Return the row of one run."""
    family, seed, method = key
    task, optimizer = family.split()
    made = problem(files, task, optimizer, seed)
    row = {"family": family, "number": seed, "method": method, "steps": made.total_steps}
    if method in schedules:
        schedule = schedules[method]
        return {**row, "fingerprint": schedule.fingerprint, **train(made, schedule)}
    if method == DEFAULT:
        return {**row, **train(made, Fixed("cosine", _DEFAULTS[optimizer], made.total_steps))}
    if method in PEERS:
        return {**row, "log": plain.train(made, PEERS[method].begin).logs[0]}
    shape, decade = method.split()
    peak = 10 ** float(decade) * made.unit
    return {**row, **train(made, Fixed(shape, peak, made.total_steps))}


def all_families() -> list[str]:
    """Return the names of all tasks with all optimizers."""
    return [f"{task} {optimizer}" for task in TASKS for optimizer in OPTIMIZERS]
