"""CPU time of a training step that also measures the angle of the path, against a plain step.

    python -m benchmarks.angle [--seconds 20]

Prints the time per step as a ratio: median over rounds, with its 95 % bootstrap confidence
interval. A round is 128 of the training loop's own steps. The angle is updated after each of them.
The record is left out. With windows of one step, each step has an angle. With windows of 64 steps,
as published, most steps only add to a mean. Before these ratios, it prints the memory that the
angle keeps and the most that the process takes for it, in copies of the parameters.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import torch
from torch import Tensor

from benchmarks.interleaved import line, rounds_within, summary
from benchmarks.loop import stepper
from benchmarks.memory import peak_of
from meta_lr.methods.basic import Constant
from meta_lr.tasks.base import Task
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models.convnets import CNN3, LeNet
from meta_lr.tasks.models.resnet import ResNet
from meta_lr.training.angle import RunningAngle

WINDOWS = (64, 1)
STEPS = 128  # of a round
MEGABYTE = 2**20
SIZE = 50 * MEGABYTE  # bytes of parameters; large, so that the rest of the process is small


def one_round(task: Task, every: int) -> float:
    """Return the time of a step with the angle, in units of a step without."""
    run = stepper(task, Constant(0.01), STEPS)
    angle, plain, passes = RunningAngle(every), 0.0, 0.0
    for step in range(STEPS):
        began = time.process_time()
        run.take(step)
        stepped = time.process_time()
        angle.after_step(run.params)
        plain, passes = plain + stepped - began, passes + time.process_time() - stepped
    return 1 + passes / plain


def compare(name: str, task: Task, budget: float) -> None:
    """Print a row for each window, from as many rounds as the CPU time allows."""
    for every in WINDOWS:
        found = rounds_within(budget, partial(one_round, task, every))
        text = f"angle in windows of {every} / none, {name}"
        print(line(text, summary(found), 1.05), flush=True)


def path(params: list[Tensor], every: int) -> RunningAngle:
    """Return the angle after four windows in which the parameters change in place."""
    angle = RunningAngle(every)
    for _ in range(4 * every):
        for p in params:
            p.mul_(0.9).add_(1.0)
        angle.after_step(params)
    return angle


def parameters() -> list[Tensor]:
    """Return parameters of `SIZE` bytes, like those of ten equal layers."""
    return [torch.randn(SIZE // 40) for _ in range(10)]


def held(angle: RunningAngle) -> float:
    """Return the memory of the angle between two steps, in copies of the parameters."""
    return sum(v.numel() * v.element_size() for vector in angle.trail for v in vector) / SIZE


def memory() -> None:
    params = parameters()
    path([torch.randn(9)], 2)  # loads the code that a first angle loads
    idle = peak_of(lambda: None)
    kept: list[RunningAngle] = []
    taken = peak_of(lambda: kept.append(path(params, 2))) - idle
    print(f"the angle keeps {held(kept[0]):.2f} copies of the parameters between steps, aim 3")
    print(f"and takes {taken * MEGABYTE / SIZE:.2f} of them at most, as the process grows")


def main() -> None:
    parser = argparse.ArgumentParser(description="What taking the angle costs.")
    parser.add_argument("--seconds", type=float, default=20.0, help="of CPU time, for each row")
    args = parser.parse_args()
    torch.set_num_threads(1)
    memory()
    compare("LeNet, batch 16", digits(LeNet, size=16, batch_size=16), args.seconds)
    compare("CNN3, batch 128", digits(CNN3, batch_size=128), args.seconds)
    resnet = digits(partial(ResNet, depth=8), batch_size=128)
    compare("ResNet-8, batch 128", resnet, args.seconds)


if __name__ == "__main__":
    main()
