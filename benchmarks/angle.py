"""A training step whose run records the angle of its path, against one without, in CPU time.

    python -m benchmarks.angle [--rounds 20]

Prints time per step as a ratio: median over rounds, with its 95 % bootstrap interval. Both sides
run in turn, on the same task, model, optimizer and batches. In windows of one step each step has an
angle; in those of 64, as published, most only add to a mean. Then, what the angle holds and what
the process takes for it at most, in copies of the parameters.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from torch import Tensor

from benchmarks.interleaved import line, ratio
from benchmarks.loop import ours
from benchmarks.memory import peak_of
from meta_lr.tasks.base import Task
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models.convnets import CNN3, LeNet
from meta_lr.training.angle import RunningAngle

WINDOWS = (64, 1)
MEGABYTE = 2**20
SIZE = 50 * MEGABYTE  # bytes of parameters, so that what the process does besides is small


def compare(name: str, task: Task, rounds: int) -> None:
    for every in WINDOWS:
        result = ratio(partial(ours, task, angle_every=every), partial(ours, task), rounds=rounds)
        print(line(f"angle in windows of {every} / none, {name}", result, 1.05), flush=True)


def path(params: list[Tensor], every: int) -> RunningAngle:
    """Return the angle after four windows of random moves of the parameters, made in place."""
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
    """Return what the angle keeps between two steps, in copies of the parameters."""
    return sum(v.numel() * v.element_size() for vector in angle.trail for v in vector) / SIZE


def memory() -> None:
    params = parameters()
    path([torch.randn(9)], 2)  # loads what a first angle loads
    idle = peak_of(lambda: None)
    kept: list[RunningAngle] = []
    taken = peak_of(lambda: kept.append(path(params, 2))) - idle
    print(f"the angle keeps {held(kept[0]):.2f} copies of the parameters between steps, aim 3")
    print(f"and takes {taken * MEGABYTE / SIZE:.2f} of them at most, as the process grows")


def main() -> None:
    parser = argparse.ArgumentParser(description="What recording the angle takes.")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    memory()
    compare("LeNet on digits, batch 16", digits(LeNet, size=16, batch_size=16), args.rounds)
    compare("CNN3 on digits, batch 128", digits(CNN3, batch_size=128), args.rounds)


if __name__ == "__main__":
    main()
