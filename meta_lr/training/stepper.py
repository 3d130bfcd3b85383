"""One controlled training step: gradient, the controller's learning rate, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from meta_lr import protocol
from meta_lr.optim import rules
from meta_lr.optim.groups import refuse_complex, separate
from meta_lr.processes import mean_over_processes, num_ranks, numbers
from meta_lr.protocol import Controller, Need
from meta_lr.records.rows import COUNTED
from meta_lr.seeds import seed_model
from meta_lr.tasks.base import Task
from meta_lr.tasks.fingerprint import fingerprint_of
from meta_lr.training.feed import Feed
from meta_lr.training.parts import Parts, averaged_at, parallel
from meta_lr.training.sandbox import InterruptedExperimentError, LossModule, Sandbox
from meta_lr.training.step import ask, gradient, update


class Stepper:
    """A task's model, its optimizer and the controller of its learning rate.

    Args:
        task: Gives the model, the batches and the loss.
        make_optimizer: Makes the optimizer from the model's parameters.
        controller: Chooses the learning rate of each step.
        total_steps: Length of the run in optimizer steps.
        seed: Seed of the model's random numbers.
        clip: Largest norm of the gradient; None does not clip.
        parts: Number of equal parts of each batch; see `training.parts`.
        workers: Number of processes that read batches ahead.
        device: Device of model and batches.
        stop: Called during long experiments; if it returns true, the experiment is interrupted.
        listener: Called immediately with the controller's reports of its experiments.

    Attributes:
        data: The fingerprint of the task's data; None if the task has none.
        model: The model, in train mode between steps.
        optimizer: The optimizer; the controller sets the learning rates of its groups.
        sandbox: The experiments; it counts their cost.
        notes: The controller's reports of its experiments in the last step.
        state: The controller's state.
        lr: Learning rate of the last step.
        feed: The batches.
        waited: Seconds that the last step waited for its batch.
    """

    def __init__(
        self,
        task: Task,
        make_optimizer: Callable[[list[nn.Parameter]], Optimizer],
        controller: Controller,
        *,
        total_steps: int,
        seed: int,
        clip: float | None,
        parts: int = 1,
        workers: int = 0,
        device: torch.device,
        stop: Callable[[], bool],
        listener: Callable[[dict[str, Any]], None] = lambda note: None,
    ) -> None:
        self.task, self.controller, self.total_steps = task, controller, total_steps
        self.data = fingerprint_of(task)
        self.seed, self.clip, self.device = seed, clip, device
        self.parts, self.feed = Parts(parts), Feed(task, device, workers)
        _refuse_unshared(controller)
        self.model = task.model().to(device).train()
        self.optimizer = make_optimizer(list(self.model.parameters()))
        rules.refuse_other_family(controller, self.optimizer)
        refuse_complex(controller, self.optimizer)
        self.params = protocol.params_of(self.optimizer)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))  # for the ratios of the groups
        separate(self.optimizer)
        self.scales = protocol.group_scales(self.optimizer)
        self.notes: list[dict[str, Any]] = []
        self.sandbox = Sandbox(
            self.model,
            self.optimizer,
            task.loss,
            self.feed.batch,
            clip=clip,
            parts=self.parts,
            seed=seed,
            stop=stop,
            val_batches=task.num_batches("val"),
            listener=self._note,
        )
        self._listener = listener
        self._forward = parallel(LossModule(self.model, task.loss))
        self.state: Any = controller.init()
        self.lr, self.waited = 0.0, 0.0

    def take(self, step: int) -> Tensor | None:
        """Take one optimizer step; return its loss (), or None before it if the run has diverged.

        The run has diverged if the loss is not finite, or if the controller raises a
        `DivergedError`. On an accelerator, the step does not wait for the loss, so a loss that is
        not finite may be returned.

        Raises:
            InterruptedExperimentError: `stop` returned true during an experiment; the state before
                the step is restored.
            ValueError: The controller returned an invalid learning rate for a finite loss.
        """
        self.notes.clear()
        undo = self._undo()
        loss = self._gradient(step)
        if _is_known_bad(loss):
            return None
        try:
            average = self._ask(step, loss)
        except InterruptedExperimentError:
            undo()
            raise
        except protocol.DivergedError:
            return None
        except ValueError:
            if math.isfinite(loss.item()):
                raise
            return None  # no controller can handle a loss that is not finite
        update(self.optimizer, average)
        return loss

    def _note(self, note: dict[str, Any]) -> None:
        self.notes.append(note)
        self._listener(note)

    def facts(self) -> dict[str, Any]:
        """Return the fields of the run for the record's header."""
        return {
            "task": self.task.name,
            "model": type(self.model).__name__,
            "optimizer": rules.family(self.optimizer),
            "method": type(self.controller).__name__,
            "controller": repr(self.controller),
            "seed": self.seed,
            "total_steps": self.total_steps,
            "steps_per_epoch": self.task.num_batches("train"),
            **({} if self.data is None else {"data": self.data}),
        }

    def counts(self) -> dict[str, int]:
        """Return the counts in the controller's state."""
        packed = protocol.pack(self.state)
        return {name: value for name, value in packed.items() if name.startswith(COUNTED)}

    def identity(self) -> dict[str, Any]:
        """Return the settings that identify this run; another run in its folder is refused."""
        return {
            "format": 1,
            "controller": repr(self.controller),
            "total_steps": self.total_steps,
            "seed": self.seed,
            "task": self.task.name,
            "optimizer": f"{type(self.optimizer).__name__}({self.optimizer.defaults})",
            "clip": self.clip,
            **({} if self.parts.count == 1 else {"parts": self.parts.count}),
            "data": self.data,
        }

    def saved(self) -> dict[str, Any]:
        """Return everything that later steps depend on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": protocol.pack(self.state),
            "search_cost": self.sandbox.cost,
            "search_seconds": self.sandbox.seconds,
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Restore the state that `saved` returned."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.state = protocol.unpack(self.state, saved["state"])
        self.sandbox.cost = saved["search_cost"]
        self.sandbox.seconds = saved["search_seconds"]

    def _gradient(self, step: int) -> Tensor:
        return mean_over_processes(gradient(self.optimizer, self._losses(step), self.clip))

    def _losses(self, step: int) -> Iterator[Tensor]:
        """Yield the loss () of each part of this process, divided by their number."""
        mine, count, self.waited = self.parts.mine, self.parts.count, 0.0
        for part in self.parts.each(list(self.model.buffers())):
            batch = self.feed.part(step, part, count)
            self.waited += self.feed.waited
            seed_model(self.seed, "model", step, *self.parts.names(part), device=self.device)
            with averaged_at(self._forward, last=part == mine[-1]):
                yield self._forward(batch) / len(mine)

    def _undo(self) -> Callable[[], None]:
        """Return a function that undoes this step, for a search that is interrupted."""
        if not self.controller.needs & Need.TRIALS:
            return lambda: None
        state, cost = protocol.clone(self.state), self.sandbox.cost
        buffers = [buffer.clone() for buffer in self.model.buffers()]

        def restore() -> None:
            self.state, self.sandbox.cost = state, cost
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)

        return restore

    def _ask(self, step: int, loss: Tensor) -> protocol.Average | None:
        try:
            lr, average, self.state = ask(
                self.controller,
                self.state,
                self.optimizer,
                step,
                scales=self.scales,
                loss=loss,
                params=self.params,
                total_steps=self.total_steps,
                steps_per_epoch=self.task.num_batches("train"),
                sandbox=self.sandbox,
            )
        except protocol.DivergedError:
            self._agree(math.nan)
            raise
        self._agree(lr)
        return average

    def _agree(self, lr: float) -> None:
        """Set the learning rate of the first process in all of them; NaN is a divergence.

        Raises:
            DivergedError: In all processes, if it is NaN in one of them.
        """
        given = numbers(lr)
        if any(map(math.isnan, given)):
            raise protocol.DivergedError("a process diverged")
        self.lr = given[0]
        if lr != self.lr:
            protocol.set_rate(self.optimizer, self.lr, self.scales)


def _refuse_unshared(controller: Controller) -> None:
    """Raise a ValueError if several processes cannot do the controller's experiments together."""
    if controller.needs & Need.TRIALS and num_ranks() > 1:
        raise ValueError(
            f"{type(controller).__name__} trains copies of the model, which "
            f"{num_ranks()} processes cannot share; run it in one process"
        )


def _is_known_bad(loss: Tensor) -> bool:
    """Return whether `loss` is not finite; on an accelerator only a later flush checks it."""
    return loss.device.type == "cpu" and not math.isfinite(loss.item())
