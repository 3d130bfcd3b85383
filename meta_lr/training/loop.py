"""The training loop: a task, an optimizer and a controller, with exact resume and records."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from meta_lr.processes import any_of, from_first, rank
from meta_lr.protocol import Controller
from meta_lr.records import rows
from meta_lr.records.lock import locked
from meta_lr.records.provenance import provenance
from meta_lr.records.reader import NAME, read_record, rows_from
from meta_lr.records.rows import Row
from meta_lr.records.writer import Listener, Recorder
from meta_lr.tasks.base import Split, Task
from meta_lr.training import saving
from meta_lr.training.angle import RunningAngle
from meta_lr.training.average import RunningAverage
from meta_lr.training.compute import Compute
from meta_lr.training.evaluation import measure, refuse_empty
from meta_lr.training.outcome import Outcome, StoppedError
from meta_lr.training.resume import STATE, fitting, found_in, refuse_other_moment
from meta_lr.training.sandbox import InterruptedExperimentError
from meta_lr.training.stepper import Stepper

Until = Callable[[Sequence[Row]], "str | None"]
_FLUSH_SECONDS = 0.5


def train(
    task: Task,
    optimizer: Callable[[list[nn.Parameter]], Optimizer],
    controller: Controller,
    *,
    total_steps: int,
    seed: int = 0,
    folder: Path | None = None,
    eval_every: int = 0,
    save_every: int = 0,
    record_every: int = 1,
    angle_every: int = 0,
    average: bool = False,
    ema: float | None = None,
    clip: float | None = None,
    device: str = "cpu",
    compute: Compute = Compute(),  # noqa: B008
    norm_decay: float | None = None,
    header: Mapping[str, object] | None = None,
    listener: Listener | None = None,
    until: Until | None = None,
    test: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Train the task's model with learning rates from `controller`; resume the run in `folder`.

    In a group of processes, all processes make the same call. They share the parts of each step and
    the evaluations, and follow the learning rate of the first process, which alone writes to
    `folder` and calls the listener. If one process is asked to stop, all processes stop. Any number
    of processes that divides `compute.parts` can resume.

    Args:
        task: Gives the model, the batches and the loss.
        optimizer: Makes the optimizer from the model's parameters, such as a partial of
            `torch.optim.SGD`.
        controller: Chooses the learning rate of each step.
        total_steps: Length of the run in optimizer steps.
        seed: Seed of everything that is random in the run, except for the task's own seed.
        folder: Where record and state are kept; None keeps nothing.
        eval_every: Steps between evaluations on "val"; 0 means once per epoch.
        save_every: Steps between saves of the state; 0 means once per epoch.
        record_every: Record each n-th step.
        angle_every: Steps of a block, for rows with the angle between the last two changes of the
            parameters' mean over blocks; 0 records no angles.
        average: Whether to keep an average of the last weights (see `training.average`). It is then
            also measured on "val" and "test" when "test" is measured. The training does not change.
        ema: Decay of an exponential moving average of the weights, such as 0.9999, in place of
            `average`.
        clip: Largest norm of the gradient; None does not clip.
        device: Device of model and batches.
        compute: How the steps are computed: parts, workers, number format, compilation.
        norm_decay: Weight decay of parameters with at most one dimension, such as biases and the
            weights of normalisation layers; None gives them the decay of the others.
        header: More fields for the record's first row.
        listener: Called with each row of the record, in order. It is also called with a row of kind
            "searching" as soon as a controller reports an experiment for the record.
        until: Called after each evaluation on "val", with the rows of all evaluations so far. It
            must be a pure function of them. If it returns a text, the run ends without a test, and
            the text is its status. If it returns None, the run continues. None as the argument
            never ends the run.
        test: Whether to measure on "test" at the end; use False for trials.
        stop: Called at every step; if it returns true, the state is saved and `StoppedError` is
            raised.

    Raises:
        ValueError: The controller needs what the run cannot provide, or returned an invalid
            learning rate; the folder holds another run or a damaged one; or the processes cannot
            share the parts, or the controller's experiments.
        LockedError: Another process works in `folder`.
        OSError: A worker was lost, or the folder cannot be written.
        StoppedError: `stop` returned true, in this or in another process.
        ElsewhereError: The first process could not read or write `folder`; raised in the others.
    """
    if total_steps < 1:
        raise ValueError(f"total_steps is {total_steps}; a run takes at least one step")
    refuse_empty(task)
    epoch = task.num_batches("train")
    with ExitStack() as held:
        if folder is not None:
            from_first(lambda: held.enter_context(locked(folder)))
        stop = stop or (lambda: False)
        tell = listener if listener is not None and rank() == 0 else lambda row: None
        stepper = Stepper(
            task,
            optimizer,
            controller,
            total_steps=total_steps,
            seed=seed,
            clip=clip,
            compute=compute,
            norm_decay=norm_decay,
            device=torch.device(device),
            stop=stop,
            listener=lambda note: tell(rows.searching(note)),
        )
        recorder = Recorder(tell, every=record_every)
        run = _Run(
            stepper,
            recorder,
            RunningAngle(angle_every),
            RunningAverage(stepper.model, on=average, ema=ema),
            folder,
            eval_every=eval_every or epoch,
            save_every=save_every or epoch,
            until=until or (lambda curve: None),
            test=test,
            stop=stop,
        )
        with closing(recorder), stepper.feed:
            ended = run.resume()
            if ended is not None:
                return ended
            run.open(header or {})
            return run.steps()


@dataclass
class _Run:
    """The state of one call of `train`."""

    stepper: Stepper
    recorder: Recorder
    angle: RunningAngle
    average: RunningAverage
    folder: Path | None
    eval_every: int
    save_every: int
    until: Until
    test: bool
    stop: Callable[[], bool]

    step: int = 0
    seconds: float = 0.0  # time spent before this process
    best: tuple[float, dict[str, Tensor]] | None = None  # best score on val, and its weights
    val: dict[str, float] = field(default_factory=dict)
    curve: list[Row] = field(default_factory=list)  # the evaluations on val
    enough: str | None = None  # why the run ends before its last step
    offset: int = 0  # bytes of the record that belong to the saved state
    record: str | None = None  # and their hash; None if the state has no hash

    def __post_init__(self) -> None:
        # Start the clock after the set-up: the first optimizer of a process imports for seconds.
        self.began = self.flushed = time.perf_counter()

    def resume(self) -> Outcome | None:
        """Load the saved state; return the outcome if the run has ended."""
        if self.folder is None:
            return None
        folder, like = self.folder, self.saved()
        found = from_first(lambda: found_in(folder, like))
        if found.saved is not None:
            with fitting(self.folder / STATE):
                self.load(found.saved)
        if not found.record.end:
            return None
        refuse_other_moment(self.folder, self.step, found.record.end.get("steps"), "step")
        with rows_from(self.folder / NAME):
            tested = [row for row in found.record.evaluations if row["split"] == "test"]
            return self.outcome(tested, found.record.end)

    def open(self, header: Mapping[str, object]) -> None:
        """Open the record: truncate it to the saved state, or begin it with its header."""
        if self.folder is not None:
            self.curve = from_first(self.reopen)
            self.enough = self.until(self.curve) if self.curve else None
        if self.step == 0 and self.offset == 0:
            facts = self.stepper.facts(), self.average.identity()
            self.recorder.add(rows.header(*facts, provenance(self.stepper.device), header))
            self.recorder.flush()  # so that a listener gets it first

    def reopen(self) -> list[Row]:
        """Open the record in the folder at the saved state; return its evaluations on "val"."""
        assert self.folder is not None
        self.recorder.open(self.folder, self.offset, self.record)
        return read_record(self.folder).curve

    def steps(self) -> Outcome:
        """Take the remaining steps."""
        rest = range(self.step, self.stepper.total_steps)
        self.stepper.feed.plan(rest, self.stepper.parts.mine, self.stepper.parts.count)
        while self.step < self.stepper.total_steps and self.enough is None:
            stopping, late = any_of(self.stop(), self.is_late())
            if stopping:
                self.save_and_stop()
            if not self.one_step():
                return self.diverge(self.step)
            self.step += 1
            if self.step % self.eval_every == 0 or self.step == self.stepper.total_steps:
                self.evaluate()
            last = self.step == self.stepper.total_steps or self.enough is not None
            due = self.step % self.save_every == 0 or last
            if due or late:
                bad = self.flush()
                if bad is not None:
                    return self.diverge(bad)
                if due:
                    self.save()
        if not math.isfinite(self.val["loss"]):  # the last update made the run diverge
            return self.diverge(self.step)
        if self.test and self.enough is None:
            return self.finish()
        return self.end(self.enough or "finished", [])

    def is_late(self) -> bool:
        """Return whether the pending rows have waited long enough."""
        return time.perf_counter() - self.flushed > _FLUSH_SECONDS

    def one_step(self) -> bool:
        """Take one optimizer step; return False before the step if the loss is not finite."""
        try:
            loss = self.stepper.take(self.step)
        except InterruptedExperimentError:
            self.save_and_stop()
        for note in self.stepper.notes:
            self.recorder.add(rows.search(note))
        if loss is None:
            return False
        spent = {"wait": round(self.stepper.waited, 4), **self.spent(self.step + 1)}
        if self.stepper.skipped:
            spent["skipped"] = True
        self.recorder.add(rows.step(self.step, loss, self.stepper.lr, spent))
        if self.stepper.skipped:
            return True
        self.average.after_step(self.step + 1 - self.stepper.num_skipped)
        angle = self.angle.after_step(self.stepper.params)
        if angle is not None:
            self.recorder.add(rows.angle(self.angle.steps, angle))
        return True

    def spent(self, steps: int) -> Row:
        """Return the fields with the cost of `steps` steps and of the experiments."""
        return {
            "cost": steps + self.stepper.sandbox.cost,
            "search_cost": self.stepper.sandbox.cost,
            "seconds": round(self.elapsed(), 4),
            "search_seconds": round(self.stepper.sandbox.seconds, 4),
        }

    def elapsed(self) -> float:
        """Return the wall-clock time in seconds, over all resumes."""
        return self.seconds + time.perf_counter() - self.began

    def evaluate(self) -> None:
        """Measure and record on "val", keep the weights if they are the best, and call `until`."""
        self.val = self.measured(self.stepper.model, "val")
        self.curve.append(self.add_evaluation("val", "current", self.val))
        self.enough = self.until(self.curve)
        score = self.val.get("accuracy", -self.val["loss"])
        if math.isfinite(score) and (self.best is None or score > self.best[0]):
            weights = {k: v.detach().clone() for k, v in self.stepper.model.state_dict().items()}
            self.best = (score, weights)

    def add_evaluation(self, split: Split, weights: str, metrics: dict[str, float]) -> Row:
        """Add an evaluation row, and return it."""
        row = rows.evaluation(self.step, split, weights, metrics, self.spent(self.step))
        self.recorder.add(row)
        return row

    def finish(self) -> Outcome:
        """Measure on "test", only once, and end the record."""
        twin = copy.deepcopy(self.stepper.model)
        tested = [self.measure_at("last", twin, "test")]
        if self.best is not None:
            twin.load_state_dict(self.best[1])
        tested.append(self.measure_at("best", twin, "test"))
        averaged = self.average.model()
        if averaged is not None:
            self.measure_at("average", averaged, "val")
            tested.append(self.measure_at("average", averaged, "test"))
        return self.end("finished", tested)

    def measure_at(self, weights: str, model: nn.Module, split: Split) -> Row:
        """Measure a model whose weights are not the current ones; return the row."""
        return self.add_evaluation(split, weights, self.measured(model, split))

    def measured(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return the metrics of a model on a split."""
        stepper = self.stepper
        with stepper.compute.autocast(stepper.device):
            return measure(stepper.task, model, split, stepper.feed.batches)

    def diverge(self, step: int) -> Outcome:
        """End the record of a run whose loss at `step` is not finite; nothing is tested."""
        earlier = self.flush()
        self.step = step if earlier is None else earlier
        self.save()
        return self.end(f"diverged at step {self.step}", [])

    def end(self, status: str, tested: list[Row]) -> Outcome:
        """Add the end row."""
        facts = self.spent(self.step), self.stepper.counts()
        row = rows.end(status, "steps", self.step, *facts)
        self.recorder.add(row)
        self.recorder.flush()
        self.recorder.sync()
        return self.outcome(tested, row)

    def outcome(self, tested: list[Row], end: Row) -> Outcome:
        """Return the outcome of the run, from its evaluations on "test" and its end row."""
        return Outcome(
            status=end["status"],
            steps=end["steps"],
            cost=end["cost"],
            search_cost=end["search_cost"],
            seconds=end["seconds"],
            search_seconds=end["search_seconds"],
            model=self.stepper.model,
            state=self.stepper.state,
            val=self.val,
            test={row["weights"]: {key: row[key] for key in self.val} for row in tested},
            folder=self.folder,
            best=None if self.best is None else self.best[0],
            average=self.average.model(),
        )

    def flush(self) -> int | None:
        """Write the pending rows; return the first step whose loss is not finite, if any."""
        self.flushed = time.perf_counter()
        return self.recorder.flush()

    def save_and_stop(self) -> NoReturn:
        """Save, then raise `StoppedError`."""
        bad = self.flush()
        self.save() if bad is None else self.diverge(bad)
        raise StoppedError(self.step, self.folder)

    def save(self) -> None:
        """Save everything that the rest of the run depends on; the record is flushed already."""
        if self.folder is not None:
            path = self.folder / STATE
            from_first(
                lambda: saving.save_atomically({**self.saved(), **self.recorder.sync()}, path)
            )

    def saved(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on, except its record."""
        return {
            "identity": self.identity(),
            **self.stepper.saved(),
            **self.angle.saved(),
            **self.average.saved(),
            "step": self.step,
            "seconds": self.elapsed(),
            "best": self.best,
            "val": self.val,
        }

    def identity(self) -> dict[str, Any]:
        """Return the settings that identify this run; another run in its folder is refused."""
        own = {**self.angle.identity(), **self.average.identity()}
        return {**self.stepper.identity(), **own}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Restore the state that `save` saved."""
        self.stepper.load(saved)
        self.angle.load(saved)
        self.average.load(saved)
        self.step, self.seconds = int(saved["step"]), float(saved["seconds"])
        if not 0 <= self.step <= self.stepper.total_steps:
            raise ValueError(f"step {self.step} of {self.stepper.total_steps}")
        self.offset, self.record = saved["offset"], saved.get("record")
        self.val = saved["val"]
        if saved["best"] is not None:
            score, weights = saved["best"]
            self.best = (float(score), dict(weights))
