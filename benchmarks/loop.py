"""CPU time of the training loop against a hand-written one.

    python -m benchmarks.loop [--rounds 40]

Prints the time per step as a ratio: median over rounds, with its 95 % bootstrap confidence
interval. Both sides run in turn, on the same task, model, optimizer and batches. Our loop writes
its record to a temporary folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.interleaved import line, ratio
from meta_lr.methods.basic import Cosine
from meta_lr.protocol import Controller
from meta_lr.tasks.base import Batch, Task
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models.convnets import CNN3
from meta_lr.tasks.models.resnet import ResNet
from meta_lr.training.compute import Compute
from meta_lr.training.loop import train
from meta_lr.training.stepper import Stepper

STEPS = 200  # long enough for the loop to write its record during the run
ONE_PROCESS = Compute()
Wrap = Callable[[torch.nn.Module], torch.nn.Module]
Cut = Callable[[Batch], Batch]
sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)


def stepper(task: Task, controller: Controller, steps: int) -> Stepper:
    """Return the start of a run with this number of the training loop's own steps."""
    return Stepper(
        *(task, sgd, controller),
        total_steps=steps,
        seed=0,
        clip=None,
        device=torch.device("cpu"),
        stop=lambda: False,
    )


def ours(task: Task, compute: Compute = ONE_PROCESS) -> float:
    """Return our loop's seconds per step, without the first step."""
    before: list[float] = []  # times before each step, when the loop checks whether to stop

    def clock() -> bool:
        before.append(time.process_time())
        return False

    with tempfile.TemporaryDirectory() as folder:
        train(
            task,
            sgd,
            Cosine(peak=0.1),
            total_steps=STEPS + 1,
            compute=compute,
            folder=Path(folder),
            eval_every=STEPS + 1,
            save_every=STEPS + 1,
            stop=clock,
        )
    return (before[STEPS] - before[1]) / (STEPS - 1)


def by_hand(task: Task, wrap: Wrap = lambda model: model, cut: Cut = lambda batch: batch) -> float:
    """Return the seconds per step of a usual hand-written loop, with torch's own cosine.

    Args:
        task: Gives the model, the batches and the loss.
        wrap: Returns the model as the loop calls it.
        cut: Returns the part of a batch that this process takes.
    """
    model = wrap(task.model().train())
    optimizer = sgd(model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    start, losses = 0.0, []
    for step in range(STEPS):
        loss = task.loss(model, cut(task.batch("train", step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        if step == 0:
            start = time.process_time()
    return (time.process_time() - start) / (STEPS - 1)


def compare(name: str, model: Callable[..., torch.nn.Module], rounds: int) -> None:
    task = digits(model, batch_size=128, seed=0)
    result = ratio(partial(ours, task), partial(by_hand, task), rounds=rounds)
    print(line(f"loop / by hand, {name} on digits", result, 1.05), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="The training loop against a hand-written one.")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    compare("CNN3", CNN3, args.rounds)
    compare("ResNet-8", partial(ResNet, depth=8), args.rounds)


if __name__ == "__main__":
    main()
