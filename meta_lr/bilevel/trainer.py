"""Episodic meta-training: phi learns from many inner problems, each unrolled from its start."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meta_lr.bilevel.meta_training import MetaTraining, Plan, rank
from meta_lr.schedulers.learned import Learned
from meta_lr.training import saving
from meta_lr.training.outcome import StoppedError
from meta_lr.training.record import Listener, Recorder, finished, locked, provenance

STATE = "state.pt"


def meta_train(
    plan: Plan,
    learner: Learned,
    phi: tuple[Tensor, ...],
    *,
    folder: Path | None = None,
    header: Mapping[str, object] | None = None,
    listener: Listener | None = None,
    stop: Callable[[], bool] | None = None,
    save_every: float = 30.0,
) -> MetaTraining:
    """Update phi as planned; resume what `folder` holds.

    Args:
        plan: What to do.
        learner: The schedule; its weights are replaced by phi.
        phi: Its first weights.
        folder: Keep record and state here, those of further processes in `rank-<n>` below it; None
            keeps nothing.
        header: More fields for the record's first row.
        listener: Called with each row of the record, in order.
        stop: Asked before each update; true saves and raises `StoppedError`.
        save_every: Seconds between saves.

    Raises:
        StoppedError: `stop` returned true.
        ValueError: The folder holds another run, or a damaged one.
    """
    training = MetaTraining(plan, learner, phi)
    if folder is not None and rank():
        folder = folder / f"rank-{rank()}"
    with nullcontext() if folder is None else locked(folder):
        recorder = Recorder(listener or (lambda row: None))
        with closing(recorder):
            return _Session(training, recorder, folder, stop, save_every).run(header or {})


class _Session:
    """One call of `meta_train`: records, saves, evaluations around the updates."""

    def __init__(
        self,
        training: MetaTraining,
        recorder: Recorder,
        folder: Path | None,
        stop: Callable[[], bool] | None,
        save_every: float,
    ) -> None:
        self.training, self.recorder, self.folder = training, recorder, folder
        self.stop, self.save_every = stop or (lambda: False), save_every
        self.seconds, self.offset = 0.0, 0
        self.identity = {
            "format": 1,
            "plan": repr(training.plan),
            "learner": repr(training.learner),
        }

    def run(self, header: Mapping[str, object]) -> MetaTraining:
        training, plan = self.training, self.training.plan
        self.load()
        if self.folder is not None and finished(self.folder):
            return training
        self.began = self.saved = time.perf_counter()
        if self.folder is not None:
            self.recorder.open(self.folder, self.offset)
        if self.offset == 0:
            facts = {"kind": "header", "plan": repr(plan), "learner": repr(training.learner)}
            self.recorder.add({**facts, **provenance(torch.device("cpu")), **header})
            self.look()
        while training.update < plan.updates:
            if self.stop():
                self.save()
                raise StoppedError(training.update, self.folder)
            score = training.one_update()
            self.recorder.add(
                {"kind": "update", "update": training.update, "score": score, **self.spent()}
            )
            if training.update % plan.evaluate_every == 0 or training.update == plan.updates:
                self.look()
            if time.perf_counter() - self.saved > self.save_every:
                self.save()
        self.recorder.add({"kind": "end", "status": "finished", **self.spent()})
        self.save()
        return training

    def look(self) -> None:
        """Evaluate phi on the held-out problems."""
        score = self.training.evaluate()
        row = {"kind": "held_out", "update": self.training.update, "score": score}
        self.recorder.add({**row, "best": self.training.best_score, **self.spent()})
        self.recorder.flush()

    def spent(self) -> dict[str, Any]:
        seconds = self.seconds + time.perf_counter() - self.began
        return {"cost": self.training.cost, "seconds": round(seconds, 4)}

    def save(self) -> None:
        self.recorder.flush()
        if self.folder is None:
            return
        saved = {
            "identity": self.identity,
            **self.training.saved(),
            "seconds": self.spent()["seconds"],
            "offset": self.recorder.sync(),
        }
        saving.save_atomically(saved, self.folder / STATE)
        self.saved = time.perf_counter()

    def load(self) -> None:
        if self.folder is not None and (self.folder / STATE).exists():
            saved = saving.load(self.folder / STATE, self.identity)
            self.training.load(saved)
            self.seconds, self.offset = saved["seconds"], saved["offset"]
