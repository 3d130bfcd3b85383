"""How a run is computed: the parts of a step, workers, number format, memory order, compilation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from meta_lr.tasks.base import Batch, Task

Precision = Literal["fp32", "bf16", "fp16"]
Compile = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]

_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}
_COMPILES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


@dataclass(frozen=True)
class Compute:
    """How the steps of a run are computed; the method of the run does not depend on it.

    Args:
        parts: Number of equal parts of each training batch; their gradients are averaged. One
            process computes them one after the other, which needs less memory; several processes,
            as started by `torchrun`, share them. It divides the batch size.
        workers: Number of processes that read batches ahead; the run is the same with any number.
            0 reads each batch when it is needed, which is enough for data in memory.
        precision: Number format of the forward pass, by `torch.autocast`; the weights stay float32.
            With "fp16" the loss is scaled by a `GradScaler`.
        channels_last: Whether the weights of convolutions are in the memory order `channels_last`.
        compile: The mode of `torch.compile` for the forward pass of the run; None does not compile.

    Raises:
        ValueError: An argument is none of these.
    """

    parts: int = 1
    workers: int = 0
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: Compile | None = None

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", *_FORMATS):
            raise ValueError(f"precision={self.precision}; choose fp32, bf16 or fp16")
        if self.compile not in (None, *_COMPILES):
            raise ValueError(f"compile={self.compile}; choose one of {', '.join(_COMPILES)}")
        if type(self.workers) is not int or self.workers < 0:
            raise ValueError(f"workers={self.workers}; a whole number is needed, at least 0")

    def identity(self) -> dict[str, Any]:
        """Return the settings that change the numbers of a run, where they are not the defaults."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "workers"}
        return {name: value for name, value in kept.items() if value != getattr(Compute, name)}

    def placed(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return the model on the device, in its memory order."""
        order = torch.channels_last if self.channels_last else torch.preserve_format
        return model.to(device).to(memory_format=order)

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return a context in which forward passes use the number format."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, _FORMATS[self.precision])

    def loss_of(self, task: Task, device: torch.device) -> Callable[[nn.Module, Batch], Tensor]:
        """Return the task's loss, computed in the number format."""
        if self.precision == "fp32":
            return task.loss

        def loss(model: nn.Module, batch: Batch) -> Tensor:
            with self.autocast(device):
                return task.loss(model, batch)

        return loss

    def scaler(self, device: torch.device) -> GradScaler | None:
        """Return what scales the loss, if small gradients would be lost in the number format."""
        return GradScaler(device.type) if self.precision == "fp16" else None

    def compiled(self, module: nn.Module) -> nn.Module:
        """Return the module, compiled if asked; its state is that of the module."""
        if self.compile is None:
            return module
        return torch.compile(module, mode=self.compile)  # pyright: ignore[reportReturnType]
