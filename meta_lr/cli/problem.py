"""One problem, as a config describes it, for the commands that try many policies on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from meta_lr.cli import asked, parts
from meta_lr.cli.range_test import swept
from meta_lr.cli.signals import StopFlag
from meta_lr.cli.sweep import JobResult
from meta_lr.lrbench.folders import setting
from meta_lr.lrbench.known import by_policy
from meta_lr.lrbench.metrics import refuse_target
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.scored import Scored
from meta_lr.lrbench.store import Store
from meta_lr.lrbench.trainer import Trainer, trainer_of
from meta_lr.methods.policies.text import from_label, label
from meta_lr.optim import rules
from meta_lr.protocol import Controller
from meta_lr.tasks.base import Task
from meta_lr.tasks.fingerprint import fingerprint_of
from meta_lr.training.loop import Until


@dataclass(frozen=True)
class Problem:
    """What policies are tried on.

    Attributes:
        task: With the first seed.
        train: Trains, shows progress, and puts results into the store.
        accurate: Whether the task has an accuracy; a target is a loss where it has none.
        store: Of results.
    """

    task: Task
    train: Trainer
    accurate: bool
    store: Store


@contextmanager
def opened(cfg: DictConfig, command: str, stop: StopFlag) -> Iterator[Problem]:
    """Give the problem that `cfg` describes.

    Raises:
        ValueError: An option is out of range, or the store is damaged.
    """
    task_of = lru_cache(maxsize=1)(lambda seed: Scored(parts.build(parts.at(cfg, seed).task)))
    task = task_of(cfg.seed)
    total_steps = parts.length(cfg, task)
    with torch.no_grad():
        accurate = "accuracy" in task.metrics(task.model().eval(), task.batch("val", 0))

    def run(
        controller: Controller,
        folder: Path,
        *,
        seed: int,
        until: Until | None,
        test: bool,
        facts: Mapping[str, object],
    ) -> object:
        own, text = parts.at(cfg, seed), label(controller)
        name = text.removeprefix("lrPolicy_") if from_label(text) else type(controller).__name__
        header = {**parts.header(own, command, name), **facts}
        places: dict[str, Any] = {"header": header, "stop": stop, "until": until, "test": test}
        return parts.run(own, task_of(seed), controller, folder, **places)

    with Store(Path(cfg.store)) as store:
        yield Problem(task, trainer_of(run, task, total_steps, store), accurate, store)


def target_of(cfg: DictConfig, problem: Problem) -> float:
    """Return the target, or raise a ValueError if the task has no such value."""
    if type(cfg.target) not in (int, float):
        needed = "an accuracy, such as 0.95," if problem.accurate else "a loss, such as 1.5,"
        raise ValueError(f"target={cfg.target}; {needed} is needed")
    refuse_target(cfg.target, accurate=problem.accurate)
    return float(cfg.target)


def result_of(results: Sequence[Result], target: float | None) -> JobResult:
    """Return what a policy's runs, one per seed, came to: the cost to the target.

    If there is no target on "val", it is the last error there.
    """
    known = by_policy(results, target)[0]
    if target is not None:
        status = "finished" if known.met else "target not met"
        return JobResult(0, status, known.cost_to_target, "cost to target")
    status = next((result.status for result in results if result.diverged), "finished")
    accurate = any(result.val_accuracy is not None for result in results)
    return JobResult(0, status, -known.score, "val error" if accurate else "val loss")


def names(cfg: DictConfig, task: Task) -> dict[str, str]:
    """Return the values by which the store knows the problem of a task."""
    header = parts.header(cfg, "", "")
    optimizer = parts.build(cfg.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    return {
        "task": task.name,
        "model": header.get("model", type(task.model()).__name__),
        "optimizer": rules.family(optimizer),
        "setting": setting(header["config"], fingerprint_of(task)),
    }


def rates_of(cfg: DictConfig, folder: Path, stop: StopFlag) -> tuple[float, float, float]:
    """Return k0, k1 and what it cost to find them: as given, or by a range test.

    Where the config has no k0, k1 alone may be given.
    """
    ends = [name for name in ("k0", "k1") if name in cfg]
    given = [parts.positive(cfg, name) for name in ends if cfg[name] is not None]
    if given and len(given) == len(ends):
        return given[0], given[-1], 0.0
    if given:
        raise ValueError("of k0 and k1 one is set; set both, or neither for a range test")
    sweep = OmegaConf.create({**_plain(cfg), **_plain(cfg.range)})
    sweep.update({"epochs": None, "seed": cfg.search_seed, "eval_every": sweep.total_steps})
    found, place = swept(sweep, folder, stop)
    print(f"rates worth a try: {found.k0:.3g} to {found.k1:.3g}, for {found.cost:,.0f} steps")
    print(f"  figure: {place}.svg, .png", flush=True)
    return found.k0, found.k1, found.cost


def refuse_misplaced(cfg: DictConfig, command: str) -> None:
    """Raise a ValueError for `lr=` and `seed=`, which other commands take."""
    asked.refuse_lr(command, "tries policies of its own")
    seeds = asked.seeds_of(cfg)
    asked.refuse_seed(cfg, command)
    if parts.whole(cfg, "search_seed", least=0) in seeds:
        raise ValueError(f"search_seed={cfg.search_seed} is one of seeds={cfg.seeds}; take another")


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the options of a config as they stand, with interpolations."""
    found = OmegaConf.to_container(cfg)
    assert isinstance(found, dict)
    return {str(name): value for name, value in found.items()}
