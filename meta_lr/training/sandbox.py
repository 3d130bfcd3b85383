"""Experiments that do not change the run: losses at other weights, and trials on a private copy.

An experiment leaves parameters, buffers, optimizer state, gradients, random state and data order of
the run bit-identical. Only `cost` and `seconds` change.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from meta_lr.processes import any_of, mean_over_processes
from meta_lr.protocol import group_scales, params_of, set_rate
from meta_lr.seeds import seed_model
from meta_lr.tasks.base import Batch, Split
from meta_lr.tasks.parts import sliced
from meta_lr.training.loaders import LoaderBatches
from meta_lr.training.parts import Parts
from meta_lr.training.step import gradient, update

LossFn = Callable[[nn.Module, Batch], Tensor]
BatchFn = Callable[[Split, int, "int | None"], Batch]

FORWARD = 1 / 3  # cost of a forward pass; forward and backward together are the unit
HVP = 3.0  # cost of a Hessian-vector product


class InterruptedExperimentError(RuntimeError):
    """A stop was requested during an experiment; the run is in its state before the experiment."""


class Sandbox:
    """The experiments that a controller may do: losses at other weights, and trials.

    Args:
        model: The live model, in train mode.
        optimizer: Its optimizer; all its parameters belong to `model`.
        loss_fn: `(model, batch) -> ()`, the mean training loss.
        batch: `(split, step, draw) -> batch`, a pure function: the batch of the run at `step` for
            draw None, else the draw-th experiment batch of that step. Splits are "train", "meta"
            and "val". DataLoaders are also accepted: by split, such as
            `{"train": loader, "val": val_loader}`, or only the loader of "train".
        clip: Largest norm of the gradient in a trial's steps, as in the run.
        parts: The parts of a step, as in the run; losses on training and meta batches are then
            means over the parts. In several processes, such a loss is the mean over all of them,
            but its gradient is that of this process's own parts.
        scaler: The run's GradScaler, if it has one; trials scale their losses in the same way.
        seed: The run's seed, if the run calls `seed_model(seed, "model", step)` before each forward
            pass; experiments then use the same dropout masks. None if the run does not.
        stop: Called at each trial step; if it returns true, the experiment ends.
        val_batches: Number of batches in one pass over split "val", the most that is measured; None
            sets no limit.
        listener: Called with the controller's reports of its experiments, see `note`.

    Attributes:
        cost: Cost of the experiments so far, in plain training steps.
        seconds: Wall-clock time of the experiments, including the controller's own computation.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss_fn: LossFn,
        batch: BatchFn | DataLoader[Any] | Mapping[Split, DataLoader[Any]],
        *,
        clip: float | None = None,
        parts: Parts = Parts(),  # noqa: B008
        scaler: torch.amp.GradScaler | None = None,
        seed: int | None = None,
        stop: Callable[[], bool] | None = None,
        val_batches: int | None = None,
        listener: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.loss_fn = loss_fn
        self.clip, self.parts, self.scaler, self.seed = clip, parts, scaler, seed
        self.cost, self.seconds = 0.0, 0.0
        self.step = 0
        self._stop, self._listener = stop, listener
        self._examples = 0
        self._device = next(model.parameters()).device
        if isinstance(batch, DataLoader):
            batch = {"train": batch}
        if isinstance(batch, Mapping):
            batch = LoaderBatches(batch, self._device, seed or 0)
            val_batches = val_batches or batch.num_batches("val")
        self.batch, self.val_batches = batch, val_batches
        self._lossy = LossModule(model, loss_fn)
        names = {id(p): "model." + name for name, p in model.named_parameters()}
        try:
            self._names = [names[id(p)] for p in params_of(optimizer)]
        except KeyError:
            raise ValueError(
                "the optimizer has a parameter that is not in the model; "
                "build the Sandbox with the module that holds all of them"
            ) from None

    @property
    def rate(self) -> float:
        """The learning rate of the run's last step; before the first step, the optimizer's own."""
        return float(self.optimizer.param_groups[0]["lr"]) / group_scales(self.optimizer)[0]

    def at(self, step: int) -> None:
        """Set the present step of the run."""
        self.step = step

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time of the block to `seconds`, if there are experiments in it."""
        before, began = self.cost, time.perf_counter()
        try:
            yield
        finally:
            if self.cost != before:
                self.seconds += time.perf_counter() - began

    def note(self, **facts: object) -> None:
        """Report an experiment, in plain values; the run's record keeps the report as a row."""
        if self._listener is not None:
            self._listener({"step": self.step, **facts, "search_cost": self.cost})

    def loss(self, params: Sequence[Tensor], draw: int | None = None) -> Tensor:
        """Return the training loss () at `params`, in the optimizer's order; differentiable.

        With draw None, it uses this step's batch and the run's own dropout mask, so that
        `loss(view.params) == view.loss`. With draw j, it uses the j-th new batch of this step.
        """
        return self._at(params, "train", draw)

    def meta_loss(self, params: Sequence[Tensor], draw: int = 0) -> Tensor:
        """Return the loss () at `params` on the draw-th batch of split "meta"; differentiable."""
        return self._at(params, "meta", draw)

    def loss_with(
        self,
        params: Sequence[Tensor],
        buffers: Mapping[str, Tensor],
        split: Split,
        draw: int | None,
    ) -> Tensor:
        """Return the loss () at `params` with the model's buffers, which the forward pass changes.

        It is like `loss` and `meta_loss`, but for an unroll of several steps; each step changes the
        buffers.
        """
        tensors = dict(zip(self._names, params, strict=True))
        tensors.update({"model." + name: buffer for name, buffer in buffers.items()})

        def forward(batch: Batch) -> Tensor:
            return functional_call(self._lossy, tensors, (batch,))

        with self._forked():
            return self._total(self.part_losses(forward, [*buffers.values()], split, draw))

    def val_loss(self, num_batches: int) -> float:
        """Return the mean loss of the run's model on the first batches of "val", in eval mode."""
        with self._forked():
            return self.measure(self.model, num_batches)

    def measure(
        self, model: nn.Module, num_batches: int, *, drawn: bool = False, first: int = 0
    ) -> float:
        """Return the mean loss of a model over batches of "val", in eval mode.

        Args:
            model: The run's model, or a copy; the mode of each module is restored afterwards.
            num_batches: Number of batches; in order, there are no more than `val_batches`.
            drawn: Whether they are random batches of this step, not batches in order.
            first: Index of the first one.
        """
        if not drawn:
            num_batches = min(num_batches, self.val_batches or num_batches)
        total, examples = 0.0, 0
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            with torch.no_grad():
                for index in range(first, first + num_batches):
                    batch = self.batch("val", *((self.step, index) if drawn else (index, None)))
                    self.charge(FORWARD, batch)
                    total += float(self.loss_fn(model, batch)) * len(batch[0])
                    examples += len(batch[0])
        finally:
            for module in training:  # a module that the user froze stays in eval mode
                module.training = True
        return total / examples

    @contextmanager
    def trial(self, first_draw: int = 0) -> Iterator[Trial]:
        """Yield a private copy of model and optimizer to train; this needs memory for one copy.

        Its steps use this step's new batches, starting with number `first_draw`. Trials with the
        same `first_draw` use the same batches.
        """
        model, optimizer = copy.deepcopy((self.model, self.optimizer))
        trained = {id(p) for p in params_of(optimizer)}
        for p in model.parameters():  # untrained parameters take no part in clipping
            p.requires_grad_(p.requires_grad and id(p) in trained)
        with self._forked():
            yield Trial(self, model, optimizer, first_draw)

    def loss_of(self, model: nn.Module, split: Split, draw: int | None) -> Tensor:
        """Return the loss () of `model`, a copy or a patched model, on a batch of this step.

        The caller must fork the random state.
        """
        forward = partial(self.loss_fn, model)
        return self._total(self.part_losses(forward, model.buffers(), split, draw))

    def part_losses(
        self,
        forward: Callable[[Batch], Tensor],
        buffers: Iterable[Tensor],
        split: Split,
        draw: int | None,
    ) -> Iterator[Tensor]:
        """Yield the loss () of each part of a batch of this step, divided by their number.

        The caller must fork the random state, and must not change the buffers that `forward` uses.
        """
        if self._stop is not None and self._is_stopped(self._stop()):
            raise InterruptedExperimentError("stopped inside an experiment")
        batch = self.batch(split, self.step, draw)
        self.charge(1.0 if torch.is_grad_enabled() else FORWARD, batch)
        for part in self.parts.each([*buffers]):
            self._seed(split, draw, part)
            yield forward(sliced(batch, part, self.parts.count)) / len(self.parts.mine)

    def charge(self, passes: float, batch: Batch) -> None:
        """Add the cost of `passes` plain steps on `batch`, scaled by its number of examples."""
        if not self._examples:
            self._examples = len(self.batch("train", self.step, 0)[0])
        self.cost += passes * len(batch[0]) / self._examples

    def _at(self, params: Sequence[Tensor], split: Split, draw: int | None) -> Tensor:
        buffers = {name: b.detach().clone() for name, b in self.model.named_buffers()}
        return self.loss_with(params, buffers, split, draw)

    def _total(self, losses: Iterable[Tensor]) -> Tensor:
        """Return the sum of this process's losses (); its value is the mean over the processes."""
        own = reduce(add, losses)
        if self.parts.processes == 1:
            return own
        return own + (mean_over_processes(own) - own.detach())

    def _is_stopped(self, here: bool) -> bool:
        return here if self.parts.processes == 1 else any(any_of(here))

    def _seed(self, split: Split, draw: int | None, part: int) -> None:
        if self.seed is not None:
            kind = (*(() if draw is None else (split, draw)), *self.parts.names(part))
            seed_model(self.seed, "model", self.step, *kind, device=self._device)

    @contextmanager
    def _forked(self) -> Iterator[None]:
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            yield


class Trial:
    """A private copy of the run that trains on new batches; each step uses the next batch.

    Attributes:
        model: The copy, in train mode.
        optimizer: The copy's optimizer, with the run's state.
        steps: Steps taken so far.
    """

    def __init__(
        self, sandbox: Sandbox, model: nn.Module, optimizer: Optimizer, first_draw: int = 0
    ) -> None:
        self.sandbox, self.model, self.optimizer = sandbox, model, optimizer
        self.steps, self._first_draw = 0, first_draw
        self._scales = group_scales(sandbox.optimizer)
        self._scaler = _twin(sandbox.scaler)

    def fingerprint(self) -> str:
        """Return a hash (16 hex digits) of the present weights, buffers and optimizer state."""
        found = hashlib.blake2b(digest_size=8)
        for tensor in _tensors((self.model.state_dict(), self.optimizer.state_dict()["state"])):
            found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def step(self, rate: float) -> Tensor:
        """Take one training step at `rate`; return its loss ()."""
        with torch.enable_grad():
            draw, forward = self._first_draw + self.steps, partial(self.sandbox.loss_fn, self.model)
            losses = self.sandbox.part_losses(forward, self.model.buffers(), "train", draw)
            loss = gradient(
                self.optimizer,
                losses,
                self.sandbox.clip,
                self._scaler,
                shared=self.sandbox.parts.processes > 1,
            )
        set_rate(self.optimizer, rate, self._scales)
        update(self.optimizer, scaler=self._scaler)
        self.steps += 1
        return loss

    def loss(self, model: nn.Module, draw: int | None) -> Tensor:
        """Return the training loss () of `model`, such as a patched copy, on the draw-th batch."""
        return self.sandbox.loss_of(model, "train", draw)

    def train_losses(self, count: int) -> list[float]:
        """Return the losses on the next `count` training batches of the trial, one by one."""
        first = self._first_draw + self.steps
        with torch.no_grad():
            return [float(self.loss(self.model, first + index)) for index in range(count)]

    def val_loss(self, num_batches: int, *, drawn: bool = False, first: int = 0) -> float:
        """Return the mean loss over batches of split "val", in eval mode.

        These are the first `num_batches` batches, or all batches if there are fewer. If `drawn`,
        they are random batches of this step, starting with number `first`. Use random batches if
        the data set is sorted by class, because its first batches are then not representative.
        """
        return self.sandbox.measure(self.model, num_batches, drawn=drawn, first=first)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)


def _twin(scaler: torch.amp.GradScaler | None) -> torch.amp.GradScaler | None:
    """Return a scaler in the same state; a scaler in the middle of a step cannot be copied."""
    if scaler is None:
        return None
    twin = torch.amp.GradScaler(scaler._device, enabled=scaler.is_enabled())
    twin.load_state_dict(scaler.state_dict())
    return twin


class LossModule(nn.Module):
    """The loss as a module around the model, so that a functional call reaches its parameters."""

    def __init__(self, model: nn.Module, loss_fn: LossFn) -> None:
        super().__init__()
        self.model = model
        self._loss_fn = loss_fn

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss () of the model on a batch."""
        return self._loss_fn(self.model, batch)
