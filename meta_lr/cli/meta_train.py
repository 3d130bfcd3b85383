"""`meta-lr meta-train`: a run that learns its own schedule, kept as a checkpoint."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from meta_lr import checkpoint
from meta_lr.bilevel.online import OnlineMLRSNet
from meta_lr.cli import parts
from meta_lr.cli.card import card
from meta_lr.cli.signals import graceful_stop
from meta_lr.training.outcome import Outcome
from meta_lr.training.record import read_rows


def command(cfg: DictConfig, folder: Path) -> int:
    """Meta-train, keep the checkpoint, report; return 0, or 3 if the run diverged."""
    method = HydraConfig.get().runtime.choices["lr"]
    task = parts.build(cfg.task)
    controller = parts.build(cfg.lr)
    if not isinstance(controller, OnlineMLRSNet):
        raise ValueError(f"lr={method} learns nothing; meta-train takes lr=mlr_snet_online")
    header = parts.header(cfg, "meta-train", method)
    with graceful_stop() as stop:
        outcome = parts.run(cfg, task, controller, folder, header=header, stop=stop)
    print(parts.summary(outcome, f"{method} on {task.name}, seed {cfg.seed}"))
    print(f"report: {parts.report(folder)}")
    if outcome.status != "finished":
        print("no checkpoint is written of a run that diverged")
        return 3
    place = _keep(outcome, controller, folder / "checkpoint")
    if cfg.checkpoint is not None:
        place = _keep(outcome, controller, Path(cfg.checkpoint))
    arguments = f'optimizer, meta_lr.load_pretrained("{place}"), total_steps=...'
    print(f"use it:  meta_lr.ControlledLR({arguments})")
    print(f"try it:  meta-lr transfer checkpoint={place}")
    return 0


def _keep(outcome: Outcome, controller: OnlineMLRSNet, place: Path) -> Path:
    """Write the checkpoint folder `place` and return it."""
    assert outcome.folder is not None
    rows = read_rows(outcome.folder)
    learned = controller.export(outcome.state, family=rows[0]["optimizer"])
    facts = ("task", "model", "optimizer", "seed", "commit")
    trained_on = {fact: rows[0][fact] for fact in facts} | {
        "steps": outcome.steps,
        "cost": outcome.cost,
    }
    name = f"MLR-SNet from {rows[0]['task']}"
    text = card(rows, controller, outcome.state, name=name, place=place, paper=checkpoint.PAPER)
    contract = checkpoint.save(place, learned, trained_on=trained_on, card=text)
    print(f"checkpoint: {place} ({contract['fingerprint']})")
    return place
