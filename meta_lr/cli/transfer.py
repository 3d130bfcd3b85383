"""`meta-lr transfer`: compose the methods, tune them if asked, compare them, report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from meta_lr import checkpoint, transfer
from meta_lr.cli import asked, pages, parts
from meta_lr.cli.family import refuse_other_family
from meta_lr.cli.processes import process_group
from meta_lr.cli.signals import StopFlag, graceful_stop
from meta_lr.cli.sweep import JobResult, mean
from meta_lr.methods.fallback import Fallback
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.processes import from_first, rank
from meta_lr.protocol import Controller
from meta_lr.tasks.base import Task
from meta_lr.training.outcome import Outcome


def command(cfg: DictConfig, folder: Path) -> JobResult:
    """Compare a checkpoint with baselines; return the mean result of the checkpoint's runs."""
    asked.refuse_lr(
        "transfer",
        "compares checkpoint= with baselines=",
        lambda method: "" if method == transfer.LEARNED else f"; pass baselines=[{method}]",
    )
    asked.refuse_seed(cfg, "transfer")
    seeds, grid = asked.seeds(cfg), asked.peaks(cfg)
    learned = parts.build(cfg.learned)
    refuse_other_family(learned, cfg, option="learned.peak")
    inner = learned.inner if isinstance(learned, Fallback) else learned
    gamma = _gamma(inner)
    peak = gamma if cfg.peak is None else parts.positive(cfg, "peak")
    methods = {name: _compose(name, peak) for name in asked.baselines(cfg)}
    for method in methods.values():
        parts.build(method.lr)  # a wrong one is refused before the first run, not after an hour
    with process_group(), graceful_stop(speaks=rank() == 0) as stop:
        print("\n".join(_plan(cfg, methods, inner, grid)), flush=True)
        train = _trainer(cfg, methods, learned, stop)
        baselines = {
            name: _choose(cfg, train, name, method, grid, folder)
            for name, method in methods.items()
        }
        outcomes = transfer.compare(
            train,
            baselines,
            seeds=seeds,
            folder=folder,
            origin={**_origin(cfg.learned.name), "peak": gamma},
            control=cfg.three_constants,
        )
        tables, page = from_first(lambda: pages.tables_and_page(folder))
        print(tables)
        print(f"report: {page}")
    return mean([parts.result(outcome) for outcome in outcomes if _is_learned(outcome)])


def _is_learned(outcome: Outcome) -> bool:
    return outcome.folder is not None and outcome.folder.parent.name == transfer.LEARNED


def _gamma(inner: Controller) -> float | None:
    """Return gamma of a pretrained scheduler, at the start of a run; None if it has none."""
    if not isinstance(inner, Learned):
        return None
    if isinstance(inner.gamma, InitialLossGamma):
        return inner.gamma(math.log(inner.gamma.num_classes))  # the loss of a network that guesses
    return inner.gamma


def _meaning(inner: Controller) -> str:
    """Return in words the peak of a pretrained scheduler."""
    if not isinstance(inner, Learned):
        return "no peak (it finds its own learning rate)"
    meaning = (
        "the peak of the cosine that it corrects" if inner.anneal else "its maximum learning rate"
    )
    return f"peak {_gamma(inner):g}, not tuned (gamma: {meaning})"


def _origin(name: str) -> dict[str, object]:
    """Return what the records say of a checkpoint: its fingerprint, and what it cost to learn."""
    _, contract = checkpoint.load(checkpoint.find(name))
    cost = contract["trained_on"].get("cost")
    return {"checkpoint": contract["fingerprint"], "meta_training_cost": cost}


def _compose(name: str, peak: float | None) -> DictConfig:
    """Return this job's config with `conf/lr/<name>.yaml` as its `lr`, at this peak if any."""
    conf = HydraConfig.get()
    cfg = hydra.compose(conf.job.config_name, [*conf.overrides.task, f"lr={name}"])
    if peak is not None and "peak" in cfg.lr:
        cfg.lr.peak = peak
    return cfg


def _plan(
    cfg: DictConfig, methods: Mapping[str, DictConfig], inner: Controller, grid: Sequence[float]
) -> list[str]:
    """Return a line per method: its name, its peak, and whether that is tuned."""
    own = "as the learned schedule's" if isinstance(inner, Learned) else "its default"
    given = "peak=" if cfg.peak is not None else own
    tuning = f"peak tuned on val over {', '.join(f'{peak:g}' for peak in grid)}"
    words = {transfer.LEARNED: _meaning(inner)}
    if cfg.three_constants:
        words[transfer.CONTROL] = "no peak (the learned run's mean rate in each third of it)"
    for name, method in methods.items():
        if "peak" not in method.lr:
            words[name] = "no peak (it sets its own rate)"
        else:
            words[name] = tuning if grid else f"peak {method.lr.peak:g}, not tuned ({given})"
    width = max(map(len, words))
    return [f"{name:{width}}  {said}" for name, said in words.items()]


def _choose(
    cfg: DictConfig,
    train: transfer.Trainer,
    name: str,
    method: DictConfig,
    grid: Sequence[float],
    folder: Path,
) -> transfer.Choice:
    """Return the baseline's peak: given, or tuned; None if the method has none."""
    if "peak" not in method.lr:
        return transfer.Choice(None)
    if not grid:
        return transfer.Choice(float(method.lr.peak))
    # beside the folder, not in it: a report on the comparison leaves the tuning out
    trials = folder.with_name(f"{folder.name}-tuning")
    choice = transfer.tune(train, name, grid, seed=cfg.tune.seed, folder=trials)
    edge = ", the edge of the grid: a wider one may do better" if choice.at_edge else ""
    print(f"{name}: tuned peak {choice.peak:g} for {choice.cost:,.0f} steps{edge}")
    return choice


def _trainer(
    cfg: DictConfig, methods: Mapping[str, DictConfig], learned: Controller, stop: StopFlag
) -> transfer.Trainer:
    """Return what trains once: it finds a method's config, sets seed and peak, and runs it."""

    @lru_cache(maxsize=1)
    def task(seed: int) -> Task:
        return parts.build(parts.at(cfg, seed).task)

    def train(
        method: str,
        folder: Path,
        *,
        seed: int,
        header: Mapping[str, object],
        peak: float | None = None,
        controller: Controller | None = None,
    ) -> Outcome:
        own = parts.at(methods.get(method, cfg), seed, peak)
        if controller is not None:
            steering = controller
        else:
            steering = learned if method == transfer.LEARNED else parts.build(own.lr)
        facts = {**parts.header(own, "transfer", method), **header}
        return parts.run(own, task(seed), steering, folder, header=facts, stop=stop)

    return train
