"""The one training loop: a task, an optimizer and a controller; exact resume, honest records."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from meta_lr import protocol, rules
from meta_lr.protocol import Controller, Need, StepView
from meta_lr.seeds import seed_model
from meta_lr.tasks.base import Batch, Split, Task
from meta_lr.training import saving
from meta_lr.training.evaluation import measure, refuse_empty
from meta_lr.training.outcome import Outcome, StoppedError
from meta_lr.training.record import (
    Listener,
    Recorder,
    Row,
    finished,
    locked,
    provenance,
    read_rows,
)
from meta_lr.training.sandbox import InterruptedExperimentError, Sandbox

STATE = "state.pt"
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
    clip: float | None = None,
    device: str = "cpu",
    header: Mapping[str, object] | None = None,
    listener: Listener | None = None,
    stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Train the task's model with rates from `controller`; resume what `folder` holds.

    Args:
        task: Gives the model, the batches and the loss.
        optimizer: Makes the optimizer from the model's parameters, such as a partial of
            `torch.optim.SGD`.
        controller: Chooses the rate of each step.
        total_steps: Length of the run in optimizer steps.
        seed: Of all that is random in the run besides the task's own seed.
        folder: Keep record and state here; None keeps nothing.
        eval_every: Steps between evaluations on "val"; 0 is once per epoch.
        save_every: Steps between saves of the state; 0 is once per epoch.
        record_every: Record each n-th step.
        clip: Largest norm of the gradient; None does not clip.
        device: Where model and batches live.
        header: More fields for the record's first row.
        listener: Called with each row of the record, in order.
        stop: Asked at every step; true saves the state and raises `StoppedError`.

    Raises:
        ValueError: The controller needs what the run cannot give, or returned an unusable rate; the
            folder holds another run, or a damaged one.
        LockedError: Another process works in `folder`.
        StoppedError: `stop` returned true.
    """
    if total_steps < 1:
        raise ValueError(f"total_steps is {total_steps}; a run takes at least one step")
    refuse_empty(task)
    epoch = task.num_batches("train")
    run = _Run(
        task,
        controller,
        total_steps=total_steps,
        seed=seed,
        folder=folder,
        eval_every=eval_every or epoch,
        save_every=save_every or epoch,
        clip=clip,
        device=torch.device(device),
        recorder=Recorder(listener or (lambda row: None), every=record_every),
        stop=stop or (lambda: False),
    )
    with nullcontext() if folder is None else locked(folder), closing(run.recorder):
        run.start(optimizer)
        if folder is not None and finished(folder):
            return run.outcome(read_rows(folder))
        run.open(header or {})
        return run.steps()


@dataclass
class _Run:
    """The moving parts of one call of `train`."""

    task: Task
    controller: Controller
    total_steps: int
    seed: int
    folder: Path | None
    eval_every: int
    save_every: int
    clip: float | None
    device: torch.device
    recorder: Recorder
    stop: Callable[[], bool]

    model: nn.Module = field(init=False)
    optimizer: Optimizer = field(init=False)
    params: list[nn.Parameter] = field(init=False)  # in the optimizer's group order
    scales: list[float] = field(init=False)  # of the groups
    sandbox: Sandbox = field(init=False)
    state: Any = field(init=False)  # the controller's
    lr: float = 0.0  # of the last step
    step: int = 0
    seconds: float = 0.0  # spent before this process
    best: tuple[float, dict[str, Tensor]] | None = None  # score on val, and those weights
    val: dict[str, float] = field(default_factory=dict)
    offset: int = 0  # bytes of the record that belong to the saved state
    began: float = field(default_factory=time.perf_counter)
    flushed: float = field(default_factory=time.perf_counter)

    def start(self, make_optimizer: Callable[[list[nn.Parameter]], Optimizer]) -> None:
        """Build model, optimizer and controller state; load what was saved."""
        self.model = self.task.model().to(self.device).train()
        self.optimizer = make_optimizer(list(self.model.parameters()))
        rules.refuse_other_family(self.controller, self.optimizer)
        self.params = [p for g in self.optimizer.param_groups for p in g["params"]]
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))  # what the ratios are taken from
        self.scales = protocol.group_scales(self.optimizer)
        self.sandbox = Sandbox(
            self.model,
            self.optimizer,
            self.task.loss,
            self.batch,
            clip=self.clip,
            seed=self.seed,
            stop=self.stop,
        )
        self.state = self.controller.init()
        if self.folder is None:
            return
        if (self.folder / STATE).exists():
            self.load(self.folder / STATE)
        elif finished(self.folder):
            raise ValueError(
                f"{self.folder} has the record of a finished run, but no {STATE}; "
                "put it back, or remove the folder"
            )

    def open(self, header: Mapping[str, object]) -> None:
        """Open the record: cut it back to the saved state, or begin it with its header."""
        if self.folder is not None:
            self.recorder.open(self.folder, self.offset)
        if self.step == 0 and self.offset == 0:
            facts = {
                "kind": "header",
                "task": self.task.name,
                "model": type(self.model).__name__,
                "optimizer": rules.family(self.optimizer),
                "method": type(self.controller).__name__,
                "controller": repr(self.controller),
                "seed": self.seed,
                "total_steps": self.total_steps,
                "steps_per_epoch": self.task.num_batches("train"),
            }
            self.recorder.add({**facts, **provenance(self.device), **header})

    def steps(self) -> Outcome:
        """Take the remaining steps."""
        while self.step < self.total_steps:
            if self.stop():
                self.save_and_stop()
            if not self.one_step():
                return self.diverge(self.step)
            self.step += 1
            if self.step % self.eval_every == 0 or self.step == self.total_steps:
                self.evaluate()
            due = self.step % self.save_every == 0 or self.step == self.total_steps
            if due or time.perf_counter() - self.flushed > _FLUSH_SECONDS:
                bad = self.flush()
                if bad is not None:
                    return self.diverge(bad)
                if due:
                    self.save()
        if not math.isfinite(self.val["loss"]):  # the last update was one too many
            return self.diverge(self.step)
        return self.finish()

    def one_step(self) -> bool:
        """Take one optimizer step; return False, before it, if the loss is known not finite."""
        undo = self.undo()
        loss = self.gradient()
        if _is_known_bad(loss):
            return False
        try:
            rate = self.ask(loss)
        except InterruptedExperimentError:
            undo()
            self.save_and_stop()
        except ValueError:
            if math.isfinite(loss.item()):
                raise
            return False  # no controller can answer a loss that is not a number
        self.optimizer.step()
        if isinstance(rate, protocol.Average):
            protocol.apply_average(self.params, rate)
        row = {"kind": "step", "step": self.step, "loss": loss, "lr": self.lr}
        self.recorder.add({**row, **self.spent(self.step + 1)})
        return True

    def gradient(self) -> Tensor:
        """Leave this step's gradient in the parameters; return its loss ()."""
        batch = self.batch("train", self.step)
        seed_model(self.seed, "model", self.step, device=self.device)
        loss = self.task.loss(self.model, batch)
        self.model.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.params, self.clip)
        return loss.detach()

    def undo(self) -> Callable[[], None]:
        """Return what takes back the part of this step that a search in it may interrupt."""
        if not self.controller.needs & Need.TRIALS:
            return lambda: None
        state, cost = protocol.clone(self.state), self.sandbox.cost
        buffers = [buffer.clone() for buffer in self.model.buffers()]

        def restore() -> None:
            self.state, self.sandbox.cost = state, cost
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)

        return restore

    def ask(self, loss: Tensor) -> protocol.Rate:
        """Ask the controller for this step's rate and write it into the optimizer."""
        self.sandbox.at(self.step)
        view = StepView(
            self.controller,
            self.step,
            total_steps=self.total_steps,
            steps_per_epoch=self.task.num_batches("train"),
            loss=loss,
            params=self.params,
            grads=[torch.zeros_like(p) if p.grad is None else p.grad for p in self.params],
            direction=lambda: rules.direction(self.optimizer),
            sandbox=self.sandbox,
        )
        with torch.no_grad():
            rate, self.state = self.controller(view, self.state)
        number = rate.rate if isinstance(rate, protocol.Average) else rate
        self.lr = protocol.check_rate(self.controller, self.step, float(number))
        protocol.set_rate(self.optimizer, self.lr, self.scales)
        return rate

    def spent(self, steps: int) -> Row:
        """Return the fields that say what `steps` steps and the experiments have cost."""
        return {
            "cost": steps + self.sandbox.cost,
            "search_cost": self.sandbox.cost,
            "seconds": round(self.elapsed(), 4),
        }

    def elapsed(self) -> float:
        """Return the wall-clock time in seconds, over all resumes."""
        return self.seconds + time.perf_counter() - self.began

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return the task's batch on the run's device."""
        batch = self.task.batch(split, index, draw)
        if self.device.type == "cpu":
            return batch
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in batch)

    def evaluate(self) -> None:
        """Measure on "val", record it, and keep the weights if they are the best so far."""
        self.val = measure(self.task, self.model, "val", self.batch)
        self.add_evaluation("val", "current", self.val)
        score = self.val.get("accuracy", -self.val["loss"])
        if math.isfinite(score) and (self.best is None or score > self.best[0]):
            weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            self.best = (score, weights)

    def add_evaluation(self, split: Split, weights: str, metrics: dict[str, float]) -> None:
        """Add an evaluation row."""
        where = {"kind": "eval", "step": self.step, "split": split, "weights": weights}
        self.recorder.add({**where, **metrics, **self.spent(self.step)})

    def finish(self) -> Outcome:
        """Measure on "test", this once, and end the record."""
        twin = copy.deepcopy(self.model)
        tested: list[Row] = []
        for weights in ("last", "best"):
            if weights == "best" and self.best is not None:
                twin.load_state_dict(self.best[1])
            metrics = measure(self.task, twin, "test", self.batch)
            self.add_evaluation("test", weights, metrics)
            tested.append({"kind": "eval", "split": "test", "weights": weights, **metrics})
        return self.end("finished", tested)

    def diverge(self, step: int) -> Outcome:
        """End the record of a run whose loss at `step` is not finite; nothing is tested."""
        earlier = self.flush()
        self.step = step if earlier is None else earlier
        self.save()
        return self.end(f"diverged at step {self.step}", [])

    def end(self, status: str, tested: list[Row]) -> Outcome:
        """Add the end row."""
        counts = {k: v for k, v in protocol.pack(self.state).items() if k.startswith("num_")}
        row = {"kind": "end", "status": status, "steps": self.step, **self.spent(self.step)}
        row = {**row, **counts}
        self.recorder.add(row)
        self.recorder.flush()
        self.recorder.sync()
        return self.outcome([*tested, row])

    def outcome(self, rows: list[Row]) -> Outcome:
        """Return what the run came to, from its last rows."""
        tested = [row for row in rows if row["kind"] == "eval" and row["split"] == "test"]
        return Outcome(
            status=rows[-1]["status"],
            steps=rows[-1]["steps"],
            cost=rows[-1]["cost"],
            search_cost=rows[-1]["search_cost"],
            seconds=rows[-1]["seconds"],
            model=self.model,
            state=self.state,
            val=self.val,
            test={row["weights"]: {key: row[key] for key in self.val} for row in tested},
            folder=self.folder,
        )

    def flush(self) -> int | None:
        """Write the rows that wait; return the first step whose loss is not finite, if any."""
        self.flushed = time.perf_counter()
        return self.recorder.flush()

    def save_and_stop(self) -> NoReturn:
        """Save, then leave."""
        bad = self.flush()
        self.save() if bad is None else self.diverge(bad)
        raise StoppedError(self.step, self.folder)

    def identity(self) -> dict[str, Any]:
        """Return what makes this run another one than those that may lie in its folder."""
        return {
            "format": 1,
            "controller": repr(self.controller),
            "total_steps": self.total_steps,
            "seed": self.seed,
            "task": self.task.name,
            "optimizer": f"{type(self.optimizer).__name__}({self.optimizer.defaults})",
            "clip": self.clip,
        }

    def save(self) -> None:
        """Save all that the rest of the run depends on; the record has been flushed."""
        if self.folder is None:
            return
        saved = {
            "identity": self.identity(),
            "step": self.step,
            "seconds": self.elapsed(),
            "search_cost": self.sandbox.cost,
            "offset": self.recorder.sync(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": protocol.pack(self.state),
            "best": self.best,
            "val": self.val,
        }
        saving.save_atomically(saved, self.folder / STATE)

    def load(self, path: Path) -> None:
        """Go on from what `save` saved."""
        saved = saving.load(path, self.identity())
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.state = protocol.unpack(self.state, saved["state"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.sandbox.cost, self.offset = saved["search_cost"], saved["offset"]
        self.best, self.val = saved["best"], saved["val"]


def _is_known_bad(loss: Tensor) -> bool:
    """Return whether `loss` is not finite; on an accelerator a flush finds out, without waiting."""
    return loss.device.type == "cpu" and not math.isfinite(loss.item())
