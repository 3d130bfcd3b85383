"""CPU time of a step with the self-tuning schedule against a plain step, with one thread.

    python -m benchmarks.self_tuning_step [--steps 300] [--pixels 32]

Both sides take the same steps (model, batches, SGD with momentum, batches of 128). They take turns
at each step, so a busy machine slows both equally. Prints the time per step as a ratio: median over
steps, with its 95 % bootstrap confidence interval. Then it prints the time of the host's own part
of a decision.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.interleaved import line, summary
from meta_lr import ControlledLR
from meta_lr.methods.features.arithmetic import FLOATS
from meta_lr.methods.features.feature import Moment
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.optim.signals import Signals
from meta_lr.tasks.models.convnets import CNN3
from meta_lr.tasks.models.resnet import ResNet

BATCH, WARM_UP, DECISIONS, ROUNDS = 128, 10, 1000, 20
MODELS: dict[str, Callable[..., nn.Module]] = {"CNN3": CNN3, "ResNet-8": partial(ResNet, depth=8)}


class Side:
    """A training loop, one step at a time.

    Args:
        make_model: Makes the model for images of this size.
        pixels: Width and height of an image.
        steps: Length of the run.
        schedule: The schedule of the learning rate; None means a plain loop.
    """

    def __init__(
        self,
        make_model: Callable[..., nn.Module],
        pixels: int,
        steps: int,
        schedule: SelfTuning | None,
    ) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = make_model(in_channels=3, image_size=pixels, num_classes=10).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.observe = lambda loss: None
        if schedule is not None:
            scheduler = ControlledLR(self.optimizer, schedule, total_steps=steps)
            self.observe = scheduler.observe

    def seconds(self, x: Tensor, y: Tensor) -> float:
        """Take a step; return its CPU time."""
        start = time.process_time()
        loss = functional.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.observe(loss)
        self.optimizer.step()
        return time.process_time() - start


def ratios(name: str, pixels: int, steps: int, sides: Sequence[SelfTuning | None]) -> list[float]:
    """Return the time with the schedule divided by that of a plain step, for each step.

    Args:
        name: Name of the model.
        pixels: Width and height of an image.
        steps: Number of steps.
        sides: The schedule and None, in the order in which their loops are made.
    """
    loops = {kind is None: Side(MODELS[name], pixels, steps, kind) for kind in sides}
    draw, found = torch.Generator().manual_seed(0), list[float]()
    for step in range(steps):
        x = torch.randn(BATCH, 3, pixels, pixels, generator=draw)
        y = torch.randint(10, (BATCH,), generator=draw)
        turn = (True, False) if step % 2 else (False, True)
        times = {is_bare: loops[is_bare].seconds(x, y) for is_bare in turn}
        found.append(times[False] / times[True])
    return found[WARM_UP:]


def compare(name: str, pixels: int, steps: int, schedule: SelfTuning) -> None:
    """Print the ratio for one model; half of the steps have the loops in the other order."""
    orders = ((schedule, None), (None, schedule))
    found = [x for sides in orders for x in ratios(name, pixels, steps // 2 + WARM_UP, sides)]
    title = f"self-tuning / bare, {name}, {pixels} x {pixels} pixels"
    print(line(title, summary(found), 1.02), flush=True)


def host_seconds(schedule: SelfTuning) -> float:
    """Return the CPU time of the host's own part of a decision: features, network and bounds."""
    now = Moment(2.0, 0, DECISIONS, Signals(1.0, 1e-3, 0.1, 0.1))
    _, scale = schedule.integrator.begin(FLOATS, 2.0, 1.0, DECISIONS)
    state = schedule.init()._replace(scale=tuple(scale))
    rounds = list[float]()
    for _ in range(ROUNDS):
        start = time.process_time()
        for step in range(DECISIONS):
            schedule._follow(state, now._replace(step=step))
        rounds.append((time.process_time() - start) / DECISIONS)
    return median(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of a step with the schedule.")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pixels", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    schedule = SelfTuning(NETWORK.init(0, "small"))
    for name in MODELS:
        compare(name, args.pixels, args.steps, schedule)
    own = 1e6 * host_seconds(schedule)
    print(f"{'features, network and bounds of a decision':58}{own:.1f} us  aim 40 us")


if __name__ == "__main__":
    main()
