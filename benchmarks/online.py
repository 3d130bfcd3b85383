"""CPU time of online MLR-SNet at the paper's period against plain training.

    python -m benchmarks.online [--period 300] [--seconds 60]

Two runs take turns at each step, one with the network and one with a cosine. Each step is the
training loop's own: batch, gradient, learning rate, update. The record is left out, because it is
the same for both. A round is 40 steps of both runs. The last step with the network has an update of
phi. Let r be the median of the steps' ratios and u the ratio of the step with the update. Then the
ratio of a period is

    ((T - 1) r + u) / T.

The table shows its median over rounds with its 95 % bootstrap confidence interval. On images of
8 x 8 pixels a step is short, so the forward pass of the network has a larger share than on the
32 x 32 pixels of CIFAR.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from benchmarks.interleaved import line, rounds_within, seconds, summary
from benchmarks.loop import stepper
from meta_lr.methods.basic import Cosine
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.tasks.base import Task
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models.convnets import CNN3
from meta_lr.tasks.models.resnet import ResNet

STEPS = 40  # of a round


class Round(NamedTuple):
    """The medians of a round."""

    plain: float  # CPU seconds of a plain step
    ordinary: float  # a step with the network, in units of plain steps
    updating: float  # a step that also updates phi, in units of plain steps

    def ratio(self, period: int) -> float:
        return ((period - 1) * self.ordinary + self.updating) / period


def on_digits(model: Callable[..., torch.nn.Module], *, large: bool = False) -> Task:
    """Return the task with batches of 128; if large, the images have CIFAR's shape."""
    task = digits(model, batch_size=128)
    return replace(task, images=task.images.repeat(1, 3, 4, 4)) if large else task


def one_round(task: Task) -> Round:
    method = OnlineMLRSNet(LSTM(), gamma=0.1, period=STEPS)
    online = stepper(task, method, STEPS)
    sides = [online, stepper(task, Cosine(peak=0.05), STEPS)]
    took: list[list[float]] = [[], []]
    for step in range(STEPS):
        for side in (0, 1) if step % 2 else (1, 0):
            took[side].append(seconds(partial(sides[side].take, step)))
    assert online.state.updates == 1
    ratios = [a / b for a, b in zip(*took, strict=True)]
    ordinary = statistics.median(ratios[1:-1])  # the first step differs from the others
    return Round(statistics.median(took[1]), ordinary, ratios[-1])


def compare(name: str, task: Task, period: int, budget: float) -> None:
    """Print a row from as many rounds as the CPU time allows, without the first one."""
    found = rounds_within(budget, partial(one_round, task))
    result = summary([one.ratio(period) for one in found])
    print(line(f"online MLR-SNet, T={period} / plain, {name}", result, 1.02))
    plain, ordinary, updating = map(statistics.median, zip(*found, strict=True))
    print(
        f"    {result.rounds} rounds; a plain step takes {1e3 * plain:.2f} ms, the network's pass "
        f"{1e3 * plain * (ordinary - 1):.2f} ms, an update {updating - ordinary:.2f} plain steps",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Online MLR-SNet against plain training.")
    parser.add_argument("--period", type=int, default=300, help="T, in steps; 300 in the paper")
    parser.add_argument("--seconds", type=float, default=60.0, help="of CPU time, for each row")
    args = parser.parse_args()
    torch.set_num_threads(1)
    resnet = partial(ResNet, depth=8)
    sizes = {"8 x 8": False, "32 x 32": True}
    for name, model in {"CNN3": CNN3, "ResNet-8": resnet}.items():
        for size, large in sizes.items():
            task = on_digits(model, large=large)
            compare(f"{name}, {size}", task, args.period, args.seconds)


if __name__ == "__main__":
    main()
