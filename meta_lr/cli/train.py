"""`meta-lr train`: one run with one method."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from meta_lr.cli import pages, parts
from meta_lr.cli.family import refuse_other_family
from meta_lr.cli.processes import process_group
from meta_lr.cli.signals import graceful_stop
from meta_lr.cli.sweep import JobResult
from meta_lr.processes import from_first, rank


def command(cfg: DictConfig, folder: Path) -> JobResult:
    """Train, report, and return how the run ended."""
    method = HydraConfig.get().runtime.choices["lr"]
    task = parts.build(cfg.task)
    controller = parts.build(cfg.lr)
    refuse_other_family(controller, cfg, option="lr.peak")
    header = parts.header(cfg, "train", method)
    with process_group(), graceful_stop(speaks=rank() == 0) as stop:
        outcome = parts.run(cfg, task, controller, folder, header=header, stop=stop)
        print(parts.summary(outcome, f"{method} on {task.name}, seed {cfg.seed}"))
        print(f"report: {from_first(lambda: pages.page_of(folder))}")
    return parts.result(outcome)
