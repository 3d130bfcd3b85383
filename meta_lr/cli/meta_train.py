"""`meta-lr meta-train`: a run that learns its own schedule, kept as a checkpoint."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from meta_lr import checkpoint
from meta_lr.cli import pages, parts
from meta_lr.cli.checks import target_of
from meta_lr.cli.family import optimizer_choice
from meta_lr.cli.processes import process_group
from meta_lr.cli.second_folder import kept
from meta_lr.cli.signals import graceful_stop
from meta_lr.cli.sweep import JobResult
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.mlr_snet.paper import PaperMLRSNet
from meta_lr.processes import from_first, rank
from meta_lr.records.reader import read_record
from meta_lr.report.card import FEW_UPDATES, card
from meta_lr.training.outcome import Outcome

ENOUGH = 100  # updates of phi, with which a scheduler is learned about as well as in the paper


def command(cfg: DictConfig, folder: Path) -> JobResult:
    """Meta-train, keep the checkpoint, report, and return how the run ended."""
    method = HydraConfig.get().runtime.choices["lr"]
    if target_of(cfg.lr) not in (OnlineMLRSNet, PaperMLRSNet):
        raise ValueError(
            f"lr={method} learns nothing; meta-train takes lr=mlr_snet_online or lr=mlr_snet_paper"
        )
    task = parts.build(cfg.task)
    controller = parts.build(cfg.lr)
    header = parts.header(cfg, "meta-train", method)
    with process_group(), graceful_stop(speaks=rank() == 0) as stop:
        outcome = parts.run(cfg, task, controller, folder, header=header, stop=stop)
        ended = outcome.status == "finished"  # the checkpoint is kept before anything is shown
        keep = partial(_keep, outcome, controller)
        places = from_first(lambda: kept(cfg, folder, keep) if ended else {})
        print(parts.summary(outcome, f"{method} on {task.name}, seed {cfg.seed}"))
        print(f"report: {from_first(lambda: pages.page_of(folder))}")
        print(from_first(lambda: _told(outcome, controller, places)))
    return parts.result(outcome)


def _told(outcome: Outcome, controller: OnlineMLRSNet, places: Mapping[Path, str]) -> str:
    """Return where the checkpoint is, and how to use it."""
    if not places:
        return "no checkpoint is written of a run that diverged"
    lines = [f"checkpoint: {place} ({fingerprint})" for place, fingerprint in places.items()]
    return "\n".join([*lines, _advice(outcome, controller, [*places][-1])])


def _advice(outcome: Outcome, controller: OnlineMLRSNet, place: Path) -> str:
    """Return how often phi was updated, and how to use what it learned, or how to learn more."""
    assert outcome.folder is not None
    head, updates = read_record(outcome.folder).header, int(outcome.state.updates)
    told = f"updates of phi: {updates}"
    if updates < FEW_UPDATES:
        more = _more(outcome.steps, head["steps_per_epoch"], controller)
        return f"{told}: this scheduler is hardly learned; {more}"
    choice = optimizer_choice(head["optimizer"])
    optimizer = f" optimizer={choice}" if choice else ""
    arguments = f'optimizer, meta_lr.load_pretrained("{place}"), total_steps=...'
    return (
        f"{told}\nuse it:  meta_lr.ControlledLR({arguments})\n"
        f"try it:  meta-lr transfer checkpoint={place}{optimizer}"
    )


def _more(steps: int, epoch: int, controller: OnlineMLRSNet) -> str:
    """Return the overrides that would give a hundred updates of phi: a longer run, or a period."""

    def missed(period: int) -> int:
        return ENOUGH - replace(controller, period=period).num_updates(steps, epoch)

    lengths = range(ENOUGH * max(controller.period, epoch) + 1)
    needed = bisect_left(lengths, ENOUGH, key=lambda n: controller.num_updates(n, epoch))
    longer = f"total_steps={needed} makes {ENOUGH} updates"
    period = bisect_right(range(1, controller.period + 1), 0, key=missed)
    return f"{longer}, so does lr.period={period}" if period else longer


def _keep(outcome: Outcome, controller: OnlineMLRSNet, place: Path) -> str:
    """Write the checkpoint folder `place` and return its fingerprint."""
    assert outcome.folder is not None
    record = read_record(outcome.folder)
    head = record.header
    learned = controller.export(outcome.state, family=head["optimizer"])
    facts = ("task", "model", "optimizer", "seed", "commit")
    trained_on = {fact: head[fact] for fact in facts} | {
        "steps": outcome.steps,
        "cost": outcome.cost,
    }
    name = f"MLR-SNet from {head['task']}"
    text = card(record, controller, outcome.state, name=name, place=place)
    return checkpoint.save(place, learned, trained_on=trained_on, card=text)["fingerprint"]
