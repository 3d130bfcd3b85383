"""Episodic meta-training: phi learns from many inner problems, each unrolled from its start."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meta_lr.bilevel.meta_training import MetaTraining, Plan
from meta_lr.bilevel.schedules import Schedule
from meta_lr.processes import any_of, from_first, gathered, num_ranks, rank
from meta_lr.records import rows
from meta_lr.records.lock import locked
from meta_lr.records.provenance import provenance
from meta_lr.records.writer import Listener, Recorder
from meta_lr.tasks.fingerprint import fingerprint_of
from meta_lr.training import saving
from meta_lr.training.outcome import StoppedError
from meta_lr.training.resume import STATE, fitting, found_in, refuse_other_moment

Part = Mapping[str, Any]  # the saved part of one process, which `MetaTraining.saved` returned


def meta_train(
    plan: Plan,
    learner: Schedule,
    phi: tuple[Tensor, ...],
    *,
    folder: Path | None = None,
    header: Mapping[str, object] | None = None,
    listener: Listener | None = None,
    stop: Callable[[], bool] | None = None,
    save_every: float = 30.0,
) -> MetaTraining:
    """Run the meta-training in `plan`; resume the run in `folder` if there is one.

    In a group of processes, all processes make the same call and share the episodes. Only the
    first process writes to `folder` and calls the listener. If one process is asked to stop, all
    processes stop.

    Args:
        plan: The settings.
        learner: The schedule; its meta-parameters are replaced by phi.
        phi: The initial meta-parameters.
        folder: Where record and state are kept. The state is that of all processes, so any number
            of processes can resume. None keeps nothing.
        header: More fields for the record's first row.
        listener: Called with each row of the record, in order.
        stop: Called before each update; if it returns true, the state is saved and `StoppedError`
            is raised.
        save_every: Seconds between saves; 0 saves before each update.

    Raises:
        StoppedError: `stop` returned true, in this or in another process.
        ValueError: The folder holds another run or a damaged one, or there are more processes than
            episodes.
        LockedError: Another run works in `folder`.
        ElsewhereError: The first process could not read or write `folder`; raised in the others.
    """
    _refuse_idle(plan)
    training = MetaTraining(plan, learner, phi)
    tell = listener if listener is not None and rank() == 0 else lambda row: None
    with ExitStack() as held, closing(Recorder(tell)) as recorder:
        if folder is not None:
            from_first(lambda: held.enter_context(locked(folder)))
        return _Session(training, recorder, folder, stop, save_every).run(header or {})


def _refuse_idle(plan: Plan) -> None:
    if plan.episodes < num_ranks():
        raise ValueError(
            f"episodes={plan.episodes}, and {num_ranks()} processes share them; each needs at "
            f"least one: pass episodes={num_ranks()}, or start fewer processes"
        )


class _Session:
    """One call of `meta_train`: the updates, with records, saves and evaluations."""

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
        self.seconds, self.offset, self.record = 0.0, 0, None
        self.identity = {
            "format": 3,
            "plan": repr(training.plan),
            "learner": repr(training.learner),
            "data": fingerprint_of(training.plan.problems(0).task),
        }

    def run(self, header: Mapping[str, object]) -> MetaTraining:
        """Resume, and take the remaining updates."""
        over = self.resume()
        self.began = self.saved = time.perf_counter()
        if over:
            return self.training
        if self.offset == 0:
            self.recorder.add(rows.header(self.facts(), header))
            self.look()
        while self.training.update < self.training.plan.updates:
            self.pause()
            self.one_update()
        # Save the state before the end row: a record with an end row then has the final phi.
        self.save()
        self.end()
        return self.training

    def resume(self) -> bool:
        """Load the saved state and open the record; return whether the run is finished already."""
        if self.folder is None:
            return False
        saved, over = from_first(self.read)
        if saved is not None:
            with fitting(self.folder / STATE):
                self.training.load(share(saved["parts"], rank(), num_ranks()))
                self.seconds = float(saved["seconds"])
            self.offset, self.record = saved["offset"], saved.get("record")
        if not over:
            from_first(self.open)
        return over

    def read(self) -> tuple[dict[str, Any] | None, bool]:
        """Return the saved state, if any, and whether the record has an end row."""
        assert self.folder is not None
        like = {"identity": self.identity, "parts": [], "seconds": 0.0}
        saved, record = found_in(self.folder, like)
        if saved is not None and record.end:
            with fitting(self.folder / STATE):
                taken = int(saved["parts"][0]["update"])
            refuse_other_moment(self.folder, taken, record.end.get("updates"), "update")
        return saved, bool(record.end)

    def open(self) -> None:
        """Truncate the record to its length when the state was saved."""
        assert self.folder is not None
        self.recorder.open(self.folder, self.offset, self.record)

    def facts(self) -> dict[str, Any]:
        """Return the fields of the header."""
        plan = self.training.plan
        return {
            "plan": repr(plan),
            "learner": repr(self.training.learner),
            "family": plan.problems.name,
            "yardstick": repr((plan.problems, plan.pool, plan.held_out, plan.peak)),
            "updates": plan.updates,
            "held_out": plan.held_out,
            "peak": plan.peak,
            "seed": plan.seed,
            "processes": num_ranks(),
            **provenance(torch.device("cpu")),
        }

    def pause(self) -> None:
        """Between two updates: save if it is time, and stop if any process was asked to stop.

        Raises:
            StoppedError: A process was asked to stop.
        """
        due = time.perf_counter() - self.saved >= self.save_every
        stopping, due = any_of(self.stop(), due)
        if stopping or due:
            self.save()
        if stopping:
            raise StoppedError(self.training.update, self.folder, unit="updates of phi")

    def one_update(self) -> None:
        """Take an update, record it, and evaluate on the held-out problems if it is time."""
        training, plan = self.training, self.training.plan
        score = training.one_update()
        best, diverged = training.best_score, training.num_diverged
        spent = self.spent()
        self.tell(rows.update(training.update, score, best=best, diverged=diverged, spent=spent))
        if training.update % plan.evaluate_every == 0 or training.update == plan.updates:
            self.look()

    def look(self) -> None:
        """Evaluate phi on the held-out problems."""
        training, score = self.training, self.training.evaluate()
        best, families, spent = training.best_score, training.scores, self.spent()
        self.tell(rows.held_out(training.update, score, best=best, families=families, spent=spent))

    def end(self) -> None:
        """End the record."""
        training = self.training
        facts = {"best": training.best_score}, self.spent()
        self.tell(rows.end("finished", "updates", training.update, *facts))
        self.recorder.sync()

    def tell(self, row: rows.Row) -> None:
        """Write a row at once."""
        self.recorder.add(row)
        self.recorder.flush()

    def spent(self) -> dict[str, Any]:
        """Return the record's fields for the total cost so far."""
        seconds = self.seconds + time.perf_counter() - self.began
        return {"cost": self.training.cost, "seconds": round(seconds, 4)}

    def save(self) -> None:
        """Save the parts of all processes in one file; all processes wait until it is written."""
        self.saved = time.perf_counter()
        if self.folder is None:
            return
        parts, path = gathered(self.training.saved()), self.folder / STATE
        from_first(lambda: self.write(parts, path))

    def write(self, parts: list[dict[str, Any]], path: Path) -> None:
        """Write the state, together with the present length of the record."""
        saved = {"identity": self.identity, "parts": parts, "seconds": self.spent()["seconds"]}
        saving.save_atomically({**saved, **self.recorder.sync()}, path)


def share(parts: Sequence[Part], place: int, count: int) -> Part:
    """Return the part of process `place` of `count`.

    With the same number of processes, the meta-training continues bit-identically. With another
    number, it continues with the same windows of the same problems, so phi is the same except for
    the order of summation. The cost may differ, because each process computes the baseline curves
    that it needs.
    """
    if len(parts) == count:
        return parts[place]
    num_workers = sum(len(part["slots"]) for part in parts)
    slots = [parts[worker % len(parts)]["slots"] for worker in range(num_workers)]
    mine = range(place, num_workers, count)
    return {
        **parts[0],
        "owed": sum(part["owed"] for part in parts) if place == 0 else 0.0,
        "begun": {k: n for k, n in _union(parts, "begun").items() if k % count == place},
        "curves": _union(parts, "curves"),
        "goals": _union(parts, "goals"),
        "slots": [slots[worker][worker // len(parts)] for worker in mine],
    }


def _union(parts: Sequence[Part], name: str) -> dict[int, Any]:
    return {key: value for part in parts for key, value in part[name].items()}
