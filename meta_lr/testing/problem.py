"""The test problem of the contract: a small task, and a typical user-written training loop."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.optim import rules
from meta_lr.protocol import Controller
from meta_lr.seeds import generator, seed_model
from meta_lr.tasks.base import Batch
from meta_lr.training.sandbox import Sandbox

MakeOptimizer = Callable[[list[nn.Parameter]], Optimizer]


@dataclass(frozen=True)
class Problem:
    """A `Task`: classification of three Gaussian classes, by a network with batch norm, dropout."""

    name: str = "contract"
    num_classes: int = 3

    def model(self) -> nn.Module:
        """Return a network of one hidden layer."""
        with torch.random.fork_rng([]):
            seed_model(0, "init")
            hidden = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2)
            return nn.Sequential(*hidden, nn.Linear(8, self.num_classes))

    def num_batches(self, split: str) -> int:
        """Return 10 for "train", else 1."""
        return 10 if split == "train" else 1

    def batch(self, split: str, index: int, draw: int | None = None) -> Batch:
        """Return inputs (8, 5) and classes (8,)."""
        drawn = generator(0, split, index, -1 if draw is None else draw)
        rule = torch.randn(5, self.num_classes, generator=generator(0, "rule"))
        inputs = torch.randn(8, 5, generator=drawn)
        return inputs, (inputs @ rule).argmax(1)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy ()."""
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss."""
        return {"loss": self.loss(model, batch)}


class OwnLoop:
    """A typical user-written training loop with `ControlledLR`.

    It shares no code with the package's training loop on purpose, because it represents user code.

    Args:
        controller: The controller of the loop.
        optimizer: Makes the optimizer from the model's parameters.
        total_steps: Length of the run, at least 12.

    Raises:
        ValueError: The controller is for another optimizer family, or the run is too short.
    """

    def __init__(self, controller: Controller, optimizer: MakeOptimizer, total_steps: int) -> None:
        if total_steps < 12:
            raise ValueError(
                f"a run of {total_steps} steps shows too little; pass steps=12 or more"
            )
        self.task, self.step = Problem(), 0
        self.model = self.task.model()
        self.optimizer = optimizer(list(self.model.parameters()))
        _refuse_other_family(controller, self.optimizer)
        self.sandbox = Sandbox(
            self.model,
            self.optimizer,
            self.task.loss,
            self.task.batch,
            seed=0,
            val_batches=self.task.num_batches("val"),
        )
        self.scheduler = ControlledLR(
            self.optimizer,
            controller,
            total_steps=total_steps,
            steps_per_epoch=self.task.num_batches("train"),
            sandbox=self.sandbox,
        )

    def each(self, steps: int) -> Iterator[float]:
        """Take `steps` steps; yield the learning rate of each step after the step."""
        for _ in range(steps):
            batch = self.task.batch("train", self.step)
            seed_model(0, "model", self.step)
            loss = self.task.loss(self.model, batch)
            self.optimizer.zero_grad()
            loss.backward()
            self.scheduler.observe(loss)
            self.optimizer.step()
            self.step += 1
            yield float(self.optimizer.param_groups[0]["lr"])

    def run(self, steps: int) -> list[float]:
        """Take `steps` steps; return their learning rates."""
        return list(self.each(steps))

    def untouchable(self) -> dict[str, Any]:
        """Return everything that a controller must not change, causes before their effects."""
        numpy = np.random.get_state(legacy=False)
        return {
            "the mode of a module": [module.training for module in self.model.modules()],
            "gradient": [p.grad for p in self.model.parameters()],
            "optimizer": self.optimizer.state_dict(),
            "model": self.model.state_dict(),
            "the random state of torch": torch.get_rng_state(),
            "the random state of NumPy": (numpy["state"]["key"].tobytes(), numpy["state"]["pos"]),
            "the random state of Python": hash(random.getstate()),
        }

    def everything(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on."""
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        return {"step": self.step, **{name: part.state_dict() for name, part in parts.items()}}

    def save(self) -> bytes:
        """Return the result of `everything` as bytes, saved by torch."""
        file = io.BytesIO()
        torch.save(self.everything(), file)
        return file.getvalue()

    def load(self, saved: bytes) -> None:
        """Restore the state that `save` returned."""
        state = torch.load(io.BytesIO(saved), weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])


def _refuse_other_family(controller: Controller, optimizer: Optimizer) -> None:
    wanted, came = getattr(controller, "family", ""), rules.family(optimizer)
    if wanted and wanted != came:
        raise ValueError(
            f"the controller is for the optimizer family {wanted}, but the check has {came}; "
            "pass optimizer=, such as partial(torch.optim.Adam, lr=0.1)"
        )
