"""`meta-lr transfer`: compose the methods, tune them if asked, compare them, report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from meta_lr import checkpoint, transfer
from meta_lr.cli import parts
from meta_lr.cli.signals import StopFlag, graceful_stop
from meta_lr.protocol import Controller
from meta_lr.report import write_report
from meta_lr.tasks.base import Task
from meta_lr.training.outcome import Outcome


def command(cfg: DictConfig, folder: Path) -> int:
    """Compare a checkpoint with baselines; return 0 once every run has ended, well or badly."""
    learned = parts.build(cfg.learned)
    seeds = _seeds(cfg)
    methods = {name: _compose(name) for name in cfg.baselines}
    for method in methods.values():
        parts.build(method.lr)  # a wrong one is refused before the first run, not after an hour
    with graceful_stop() as stop:
        train = _trainer(cfg, methods, learned, stop)
        baselines = {name: _choose(cfg, train, name, methods, folder) for name in methods}
        transfer.compare(
            train,
            baselines,
            seeds=seeds,
            folder=folder,
            origin=_origin(cfg.learned.name),
            control=cfg.three_constants,
        )
    report = write_report(folder, folder / "report")
    print(report.markdown)
    print(f"report: {report.page}")
    return 0


def _seeds(cfg: DictConfig) -> list[int]:
    seeds = list(cfg.seeds)
    if not seeds or any(type(seed) is not int or seed < 0 for seed in seeds):
        raise ValueError(f"seeds={seeds}; a list of whole numbers is needed, such as seeds=[0,1,2]")
    if len(cfg.tune.peaks) and cfg.tune.seed in seeds:
        raise ValueError(
            f"tune.seed={cfg.tune.seed} is one of seeds={seeds}; tune with another one"
        )
    return seeds


def _origin(name: str) -> dict[str, object]:
    """Return what the records say of a checkpoint: its fingerprint, and what it cost to learn."""
    _, contract = checkpoint.load(checkpoint.find(name))
    cost = contract["trained_on"].get("cost")
    return {"checkpoint": contract["fingerprint"], "meta_training_cost": cost}


def _compose(name: str) -> DictConfig:
    """Return this job's config with `conf/lr/<name>.yaml` as its `lr`."""
    conf = HydraConfig.get()
    cfg = hydra.compose(conf.job.config_name, [*conf.overrides.task, f"+lr={name}"])
    if "peak" in cfg.lr:
        cfg.lr.peak = cfg.peak
    return cfg


def _choose(
    cfg: DictConfig,
    train: transfer.Trainer,
    name: str,
    methods: Mapping[str, DictConfig],
    folder: Path,
) -> transfer.Choice:
    """Return the baseline's peak: given, or tuned; None if the method has none."""
    if "peak" not in methods[name].lr:
        return transfer.Choice(None)
    if not cfg.tune.peaks:
        return transfer.Choice(parts.positive(cfg, "peak"))
    # beside the folder, not in it: a report on the comparison leaves the tuning out
    trials = folder.with_name(f"{folder.name}-tuning")
    peaks = [parts.positive(cfg, f"tune.peaks.{index}") for index in range(len(cfg.tune.peaks))]
    choice = transfer.tune(train, name, peaks, seed=cfg.tune.seed, folder=trials)
    edge = ", the edge of the grid: a wider one may do better" if choice.at_edge else ""
    print(f"{name}: tuned peak {choice.peak:g} for {choice.cost:,.0f} steps{edge}")
    return choice


def _trainer(
    cfg: DictConfig, methods: Mapping[str, DictConfig], learned: Controller, stop: StopFlag
) -> transfer.Trainer:
    """Return what trains once: it finds a method's config, sets seed and peak, and runs it."""

    @lru_cache(maxsize=1)
    def task(seed: int) -> Task:
        return parts.build(_at(cfg, seed).task)

    def train(
        method: str,
        folder: Path,
        *,
        seed: int,
        header: Mapping[str, object],
        peak: float | None = None,
        controller: Controller | None = None,
    ) -> Outcome:
        own = _at(methods.get(method, cfg), seed, peak)
        if controller is not None:
            steering = controller
        else:
            steering = learned if method == transfer.LEARNED else parts.build(own.lr)
        facts = {**parts.header(own, "transfer", method), **header}
        return parts.run(own, task(seed), steering, folder, header=facts, stop=stop)

    return train


def _at(cfg: DictConfig, seed: int, peak: float | None = None) -> DictConfig:
    """Return a copy of `cfg` with this seed, and this peak if there is one."""
    cfg = cfg.copy()
    cfg.seed = seed
    if peak is not None:
        OmegaConf.update(cfg, "lr.peak", peak)
    return cfg
