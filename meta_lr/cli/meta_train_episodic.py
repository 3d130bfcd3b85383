"""`meta-lr meta-train-episodic`: learn from many inner problems, keep the best as a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from meta_lr import checkpoint
from meta_lr.bilevel.meta_training import MetaTraining, Plan
from meta_lr.bilevel.trainer import meta_train
from meta_lr.cli import pages, parts
from meta_lr.cli.processes import process_group
from meta_lr.cli.progress import Updates, shown
from meta_lr.cli.second_folder import kept
from meta_lr.cli.signals import graceful_stop
from meta_lr.cli.sweep import JobResult
from meta_lr.methods.contract import Scheduler
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.self_tuning.schedule import SelfTuning
from meta_lr.processes import rank
from meta_lr.report.episodic_card import card
from meta_lr.vectors import Tensors

UNIT = "sgd"  # the optimizer whose rates are the unit of gamma

_PARTS = ("problems", "estimator", "objective", "window")
_NUMBERS = ("updates", "episodes", "pool", "held_out", "evaluate_every")
_SIZES = ("meta_lr", "clip", "peak")


def command(cfg: DictConfig, folder: Path) -> JobResult:
    """Meta-train, keep the best checkpoint, report, and return its score."""
    parts.set_threads(cfg)
    plan = _plan(cfg)
    learner = _learner(cfg, plan.seed)
    with process_group(), graceful_stop(speaks=rank() == 0) as stop:
        done = _run(cfg, plan, learner, folder, stop)
        if rank() == 0:
            _tell(cfg, done, learner, folder)
    return JobResult(score=done.best_score, measure="held-out score")


def _learner(cfg: DictConfig, seed: int) -> Scheduler:
    """Return the schedule with its first weights: with an integrator it finds its own scale."""
    net, features = parts.build(cfg.net), parts.build(cfg.features)
    phi = net.init(seed, cfg.start)
    if "integrator" in cfg:
        return SelfTuning(phi, net, parts.build(cfg.integrator), features)
    gamma = parts.positive(cfg, "gamma")
    return Learned(net, [phi], gamma, features=features, anneal=bool(cfg.anneal))


def _with(learner: Scheduler, phi: Tensors) -> Scheduler:
    """Return the schedule with the weights `phi`."""
    if isinstance(learner, SelfTuning):
        return replace(learner, weights=phi)
    return replace(learner, stages=(phi,), family=UNIT)


def _plan(cfg: DictConfig) -> Plan:
    values: dict[str, Any] = {name: parts.build(cfg[name]) for name in _PARTS}
    values |= {name: parts.whole(cfg, name, least=1) for name in _NUMBERS}
    values |= {name: parts.positive(cfg, name) for name in _SIZES}
    values |= {"cooldown": cfg.cooldown}
    if "curriculum" in cfg:
        values["curriculum"] = parts.build(cfg.curriculum)
    return Plan(**values, seed=parts.whole(cfg, "seed", least=0))


def _title(plan: Plan) -> str:
    return f"meta-training on {plan.problems.name} seed {plan.seed}"


def _run(
    cfg: DictConfig, plan: Plan, learner: Scheduler, folder: Path, stop: Callable[[], bool]
) -> MetaTraining:
    """Meta-train with progress and logging; what is finished is only read."""
    header = {"command": "meta-train-episodic", "config": OmegaConf.to_container(cfg, resolve=True)}
    options: dict[str, Any] = {"stop": stop, "save_every": parts.whole(cfg, "save_every", least=0)}
    if rank():  # the first process shows, logs and writes for all
        return meta_train(plan, learner, learner.stages[0], folder=folder, **options)
    show = shown(_title(plan), plan.updates, Updates(plan.updates))
    with parts.listening(cfg, folder, _title(plan), show) as listen:
        options |= {"header": header, "listener": listen}
        return meta_train(plan, learner, learner.stages[0], folder=folder, **options)


def _tell(cfg: DictConfig, done: MetaTraining, learner: Scheduler, folder: Path) -> None:
    """Keep the checkpoint before all that is shown, report, and say how to use it."""
    best = _with(learner, done.best)
    places = kept(cfg, folder, partial(keep, done, best))
    print(
        f"{_title(done.plan)}: best on {done.plan.held_out} held-out problems "
        f"{done.best_score:+.4f} nats from a cosine at peak {done.plan.peak:g} (below 0 is "
        f"better); cost {done.cost:,.0f} steps"
    )
    for place, fingerprint in places.items():
        print(f"checkpoint: {place} ({fingerprint})")
    print(f"report: {pages.page_of(folder)}")
    print(f"use it:  meta_lr.load_pretrained({str([*places][-1])!r})")


def keep(done: MetaTraining, best: Scheduler, place: Path) -> str:
    """Write the best scheduler as a checkpoint; return its fingerprint."""
    trained_on = {
        "task": done.plan.problems.name,
        "plan": repr(done.plan),
        "seed": done.plan.seed,
        "updates": done.update,
        "cost": done.cost,
        "held_out_score": done.best_score,
    }
    text = card(done, best, place.name)
    return checkpoint.save(place, best, trained_on=trained_on, card=text)["fingerprint"]
