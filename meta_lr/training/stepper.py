"""One controlled training step: gradient, the controller's learning rate, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from meta_lr import host, protocol
from meta_lr.optim import rules
from meta_lr.optim.groups import refuse_complex, separate
from meta_lr.processes import mean_over_processes, num_ranks, numbers
from meta_lr.protocol import Controller, Need
from meta_lr.records.rows import COUNTED
from meta_lr.seeds import seed_model
from meta_lr.tasks.base import Task
from meta_lr.tasks.fingerprint import fingerprint_of
from meta_lr.training.compute import Compute
from meta_lr.training.feed import Feed
from meta_lr.training.parts import Parts, averaged_at
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
        device: Device of model and batches.
        compute: How the steps are computed.
        norm_decay: Weight decay of parameters with at most one dimension; None leaves it.
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
        skipped: Whether the last step was skipped because its gradient in half precision was not
            finite; neither weights nor controller have changed.
        num_skipped: Number of such steps.
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
        device: torch.device,
        compute: Compute = Compute(),  # noqa: B008
        norm_decay: float | None = None,
        stop: Callable[[], bool],
        listener: Callable[[dict[str, Any]], None] = lambda note: None,
    ) -> None:
        self.task, self.controller, self.total_steps = task, controller, total_steps
        self.data = fingerprint_of(task)
        self.seed, self.clip, self.device = seed, clip, device
        self.compute, self.parts = compute, Parts(compute.parts, num_ranks())
        self.feed = Feed(task, device, compute.workers)
        self.model = compute.placed(task.model(), device).train()
        self.optimizer = make_optimizer(_grouped(self.model, norm_decay))
        self.norm_decay, self.scaler = norm_decay, compute.scaler(device)
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
            compute.loss_of(task, device),
            self.feed.batch,
            clip=clip,
            parts=self.parts,
            scaler=self.scaler,
            seed=seed,
            stop=stop,
            val_batches=task.num_batches("val"),
            listener=self._note,
        )
        self._listener = listener
        lossy = LossModule(self.model, self.sandbox.loss_fn)
        self._forward = compute.compiled(self.parts.parallel(lossy))
        self.state: Any = controller.init()
        self.lr, self.waited = 0.0, 0.0
        self.skipped, self.num_skipped = False, 0

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
        self.skipped = False
        undo = self._undo()
        loss = self._gradient(step)
        if _is_known_bad(loss):
            return None
        if self.scaler is not None and not _is_finite(self.params):
            self._skip(self.scaler)
            return loss
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
        update(self.optimizer, average, self.scaler)
        return loss

    def _skip(self, scaler: GradScaler) -> None:
        """Skip the step, and lower the scale of the loss."""
        scaler.step(self.optimizer)  # it takes no step, since it has found the infinity
        scaler.update()
        self.skipped = True
        self.num_skipped += 1

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
        found = {name: value for name, value in packed.items() if name.startswith(COUNTED)}
        return found if self.scaler is None else {**found, "num_skipped": self.num_skipped}

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
            **self.compute.identity(),
            **({} if self.norm_decay is None else {"norm_decay": self.norm_decay}),
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
            **({} if self.scaler is None else self._scaling(self.scaler)),
        }

    def _scaling(self, scaler: GradScaler) -> dict[str, Any]:
        return {"scaler": scaler.state_dict(), "num_skipped": self.num_skipped}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Restore the state that `saved` returned."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.state = protocol.unpack(self.state, saved["state"])
        self.sandbox.cost = saved["search_cost"]
        self.sandbox.seconds = saved["search_seconds"]
        if self.scaler is not None:
            self.scaler.load_state_dict(saved["scaler"])
            self.num_skipped = int(saved["num_skipped"])

    def _gradient(self, step: int) -> Tensor:
        losses: list[Tensor] = []
        gradient(self.optimizer, self._losses(step, losses), self.clip, self.scaler)
        return losses[0]

    def _losses(self, step: int, whole: list[Tensor]) -> Iterator[Tensor]:
        """Yield the loss () of each part of this process, divided by their number.

        The loss of the whole step is put into `whole` before the last part is yielded, so that on
        an accelerator the host can read it without waiting for the backward pass.
        """
        mine, count, self.waited = self.parts.mine, self.parts.count, 0.0
        own: list[Tensor] = []
        for part in self.parts.each(list(self.model.buffers())):
            batch = self.feed.part(step, part, count)
            self.waited += self.feed.waited
            seed_model(self.seed, "model", step, *self.parts.names(part), device=self.device)
            with averaged_at(self._forward, last=part == mine[-1]):
                loss = self._forward(batch) / len(mine)
                own.append(loss.detach())
                if part == mine[-1]:
                    whole.append(host.sent(mean_over_processes(reduce(add, own))))
                yield loss

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


def _grouped(model: nn.Module, norm_decay: float | None) -> list[Any]:
    """Return the parameters; in two groups if those of norms and biases have their own decay."""
    params = list(model.parameters())
    if norm_decay is None:
        return params
    few, many = ([p for p in params if (p.ndim <= 1) is small] for small in (True, False))
    groups = [{"params": many}, {"params": few, "weight_decay": norm_decay}]
    return [group for group in groups if group["params"]]


def _is_finite(params: Sequence[Tensor]) -> bool:
    """Return whether all gradients are finite; on an accelerator the host waits for them."""
    norm = nn.utils.get_total_norm(p.grad for p in params if p.grad is not None)
    return math.isfinite(norm.item())


def _is_known_bad(loss: Tensor) -> bool:
    """Return whether `loss` is not finite; on an accelerator only a later flush checks it."""
    return loss.device.type == "cpu" and not math.isfinite(loss.item())
