"""`meta-lr meta-train-episodic`: learn from many inner problems, keep the best as a checkpoint."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from meta_lr import checkpoint
from meta_lr.bilevel.meta_training import MetaTraining, Plan
from meta_lr.bilevel.trainer import meta_train
from meta_lr.cli import parts
from meta_lr.cli.signals import graceful_stop
from meta_lr.schedulers.learned import Learned
from meta_lr.training.record import Listener

log = logging.getLogger(__name__)

_PARTS = ("problems", "estimator", "objective", "window")
_NUMBERS = ("updates", "episodes", "pool", "held_out", "evaluate_every")
_SIZES = ("meta_lr", "clip", "peak")


def command(cfg: DictConfig, folder: Path) -> int:
    """Meta-train, keep the best checkpoint, and return 0."""
    if cfg.threads is not None:
        torch.set_num_threads(parts.whole(cfg, "threads", least=1))
    plan = _plan(cfg)
    net = parts.build(cfg.net)
    phi = net.init(plan.seed)
    learner = Learned(net, [phi], parts.positive(cfg, "gamma"), features=parts.build(cfg.features))
    header = {"command": "meta-train-episodic", "config": OmegaConf.to_container(cfg, resolve=True)}
    with graceful_stop() as stop:
        done = meta_train(
            plan, learner, phi, folder=folder, header=header, listener=_told(plan), stop=stop
        )
    places = [folder / "checkpoint", *([Path(cfg.checkpoint)] if cfg.checkpoint else [])]
    for place in places:
        _keep(done, learner, place)
    print(f"use it:  meta_lr.load_pretrained({str(places[-1])!r})")
    return 0


def _plan(cfg: DictConfig) -> Plan:
    values: dict[str, Any] = {name: parts.build(cfg[name]) for name in _PARTS}
    values |= {name: parts.whole(cfg, name, least=1) for name in _NUMBERS}
    values |= {name: parts.positive(cfg, name) for name in _SIZES}
    return Plan(**values, seed=parts.whole(cfg, "seed", least=0))


def _told(plan: Plan) -> Listener:
    """Return a listener: one line per look at the held-out problems."""

    def tell(row: dict[str, Any]) -> None:
        if row["kind"] == "held_out":
            line = (
                f"update {row['update']}/{plan.updates}  held-out problems {row['score']:+.4f} "
                f"nats against a cosine (best {row['best']:+.4f})  cost {row['cost']:,.0f}  "
                f"{row['seconds']:.1f} s"
            )
            log.info(line)
            print(line, flush=True)
        elif row["kind"] == "update" and sys.stdout.isatty():
            print(f"\rupdate {row['update']}  score {row['score']:+.3f}", end="\r", flush=True)

    return tell


def _keep(done: MetaTraining, learner: Learned, place: Path) -> None:
    best = replace(learner, stages=(done.best,))
    trained_on = {
        "task": done.plan.problems.name,
        "plan": repr(done.plan),
        "seed": done.plan.seed,
        "updates": done.update,
        "cost": done.cost,
        "held_out_score": done.best_score,
    }
    card = _card(done, best)
    contract = checkpoint.save(place, best, trained_on=trained_on, card=card)
    print(f"checkpoint: {place} ({contract['fingerprint']})")


def _card(done: MetaTraining, best: Learned) -> str:
    return f"""# A schedule learned from {done.plan.pool} short trainings

{best!r}

Meta-trained for {done.update:,} updates of phi at a cost of {done.cost:,.0f} plain training steps:

    {done.plan!r}

On {done.plan.held_out} problems of the same family, which chose phi, the final validation loss is
{done.best_score:+.3f} nats from that of a cosine at peak {done.plan.peak:g} (below 0 is better).
Episodes that diverged and were dropped: {done.num_diverged}.

The rate at full output is in units of plain SGD's; it was learned with {_optimizers(done)}.
"""


def _optimizers(done: MetaTraining) -> str:
    return ", ".join(getattr(done.plan.problems, "optimizers", ()))
