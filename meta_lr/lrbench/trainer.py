"""The trainer of verification, recommendation and composition: one problem, many policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer

from meta_lr.lrbench.folders import result_of
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.scored import Scored
from meta_lr.lrbench.store import Store
from meta_lr.methods.policies.text import label
from meta_lr.protocol import Controller
from meta_lr.tasks.base import Task
from meta_lr.training.loop import Until, train


class Run(Protocol):
    """Trains once and keeps the record in a folder; a run that has ended there is only read."""

    def __call__(
        self,
        controller: Controller,
        folder: Path,
        *,
        seed: int,
        until: Until | None,
        test: bool,
        facts: Mapping[str, object],
    ) -> object:
        """Train; only `seed` determines data, initial weights and length; a header has `facts`."""
        ...


@dataclass(frozen=True)
class Trainer:
    """A problem (task, model, optimizer, budget) on which policies are trained.

    Args:
        run: Trains once.
        total_steps: The budget of a run, in optimizer steps.
        steps_per_epoch: Optimizer steps in one pass over the training data.
        val_examples: Number of examples in an evaluation on "val"; 0 if it is unknown.
        store: Where each result is stored; None keeps it only in the run's folder.
    """

    run: Run
    total_steps: int
    steps_per_epoch: int
    val_examples: int = 0
    store: Store | None = None

    def __call__(
        self,
        controller: Controller,
        folder: Path,
        *,
        seed: int,
        until: Until | None = None,
        test: bool = False,
        facts: Mapping[str, object] | None = None,
    ) -> Result:
        """Train with a controller in `folder`, unless it was done before; return the result.

        Args:
            controller: Chooses the learning rates.
            folder: Folder for only this run.
            seed: Seed of the run.
            until: May end the run early.
            test: Whether to measure on "test" at the end; for reported runs, not for trials.
            facts: More fields of the record's header, such as the `method` for a report.
        """
        self.run(controller, folder, seed=seed, until=until, test=test, facts=facts or {})
        result = result_of(folder)
        assert result is not None, "the run has just ended"
        if self.store is not None:
            self.store.put([result])
        return result


def trainer(
    task: Callable[[int], Task],
    optimizer: Callable[[list[nn.Parameter]], Optimizer],
    *,
    total_steps: int,
    eval_every: int = 0,
    clip: float | None = None,
    device: str = "cpu",
    store: Store | None = None,
) -> Trainer:
    """Return a trainer for use from Python.

    Args:
        task: Makes the task for a seed, such as `lambda seed: digits(MLP(), seed=seed)`.
        optimizer: Makes the optimizer from the model's parameters.
        total_steps: The budget of a run, in optimizer steps.
        eval_every: Steps between evaluations on "val"; 0 means once per epoch.
        clip: Largest norm of the gradient; None does not clip.
        device: Device of model and batches.
        store: Where each result is stored.
    """

    def run(
        controller: Controller, folder: Path, *, seed: int, facts: Mapping[str, object], **ends: Any
    ) -> None:
        train(
            Scored(task(seed)),
            optimizer,
            controller,
            total_steps=total_steps,
            seed=seed,
            folder=folder,
            eval_every=eval_every,
            clip=clip,
            device=device,
            header={"policy": label(controller), **facts},
            **ends,
        )

    return trainer_of(run, task(0), total_steps, store)


def trainer_of(run: Run, task: Task, total_steps: int, store: Store | None) -> Trainer:
    """Return a trainer of a task that `run` trains."""
    last = task.num_batches("val") - 1  # only the last batch may be smaller
    examples = last * len(task.batch("val", 0)[0]) + len(task.batch("val", last)[0])
    return Trainer(run, total_steps, task.num_batches("train"), examples, store)
