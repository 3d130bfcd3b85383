"""Time and memory of the ways to the meta-gradient, CNN3 or ResNet-8 at 32 x 32, batch 128.

    python -m benchmarks.meta_gradient [--model cnn3] [--steps 1,5,20,50,100] [--batch 128]

One process per row, one thread, each on the same random images. Time is in plain training steps,
timed in the same process just before and after; memory is what the peak rises above that of those
plain steps. "raw higher" is the recipe that one would write with the library alone.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meta_lr import rules
from meta_lr.bilevel.estimators import Adjoint, ClosedForm, FirstOrder, Unroll
from meta_lr.bilevel.objectives import Final
from meta_lr.bilevel.online import OnlineMLRSNet
from meta_lr.protocol import StepView
from meta_lr.schedulers.learned import Learned
from meta_lr.schedulers.lstm import LSTM
from meta_lr.seeds import generator
from meta_lr.tasks.models.convnets import CNN3
from meta_lr.tasks.models.resnet import ResNet
from meta_lr.training.sandbox import Sandbox

MODELS: dict[str, Callable[[], nn.Module]] = {
    "cnn3": lambda: CNN3(num_classes=10, in_channels=3, image_size=32),
    "resnet8": lambda: ResNet(num_classes=10, in_channels=3, image_size=32, depth=8),
}
ESTIMATORS = {
    "closed_form": ClosedForm(),
    "first_order": FirstOrder(),
    "adjoint": Adjoint(),
    "unroll": Unroll(),
}


@dataclass
class Problem:
    """A run that waits after the gradient of its second step, with momentum."""

    model: nn.Module
    batch_size: int

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.net = LSTM()
        self.sandbox = Sandbox(self.model, self.optimizer, self.loss, self.batch, seed=0)
        self.sandbox.at(1)
        self.plain(1)
        self.loss(self.model, self.batch("train", 1)).backward()

    def batch(self, split: str, index: int, draw: int | None = None) -> tuple[Tensor, Tensor]:
        g = generator(index, split, -1 if draw is None else draw)
        images = torch.randn(self.batch_size, 3, 32, 32, generator=g)
        return images, torch.randint(10, (self.batch_size,), generator=g)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def plain(self, steps: int) -> None:
        """Take plain training steps."""
        for k in range(steps):
            self.optimizer.zero_grad()
            self.loss(self.model, self.batch("train", 0, k)).backward()
            self.optimizer.step()

    def learner(self) -> Learned:
        phi = tuple(weight.requires_grad_() for weight in self.net.init(0))
        return Learned(self.net, (phi,), 0.02)

    def estimate(self, name: str, steps: int) -> None:
        learner, estimator = self.learner(), ESTIMATORS[name]
        view = StepView(
            OnlineMLRSNet(self.net, look_ahead=steps, estimator=estimator),
            1,
            total_steps=steps,
            loss=torch.tensor(2.3),
            params=list(self.model.parameters()),
            direction=lambda: rules.direction(self.optimizer),
            sandbox=self.sandbox,
        )
        estimator(learner, learner.init(), view, Final()(0, steps))

    def raw_higher(self, steps: int) -> None:
        """Unroll with `higher` alone."""
        import higher

        learner = self.learner()
        phi, memory = learner.stages[0], self.net.memory()
        with higher.innerloop_ctx(self.model, self.optimizer) as (model, optimizer):
            for k in range(steps):
                loss = self.loss(model, self.batch("train", 1, k))
                p, memory = self.net(phi, loss, memory)
                optimizer.step(loss, override={"lr": [0.02 * p]})
            torch.autograd.grad(self.loss(model, self.batch("meta", 1, 0)), phi)


def peak() -> float:
    """Return the largest resident size of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(model: str, name: str, steps: int, batch_size: int) -> None:
    """Print one row: time in plain steps, per step of the look-ahead, and MB above plain steps."""
    torch.set_num_threads(1)
    problem = Problem(MODELS[model](), batch_size)
    problem.plain(3)
    before, count = peak(), min(max(steps, 5), 20)
    unit = _seconds(lambda: problem.plain(count)) / count
    took = _seconds(
        lambda: problem.raw_higher(steps) if name == "raw higher" else problem.estimate(name, steps)
    )
    extra = peak() - before
    unit = (unit + _seconds(lambda: problem.plain(count)) / count) / 2
    print(
        f"{model:8} {name:12} {steps:4} {took / unit:9.1f} {took / unit / steps:9.2f} {extra:9.0f}"
    )


def _seconds(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cnn3", choices=MODELS)
    parser.add_argument("--steps", default="1,5,20,50,100", help="values of K")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--only", default="", help="one estimator")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.model, args.one, int(args.steps), args.batch)
        return
    print("model    estimator       K  in plain steps  per step  MB above plain", flush=True)
    for steps in args.steps.split(","):
        for name in [args.only] if args.only else [*ESTIMATORS, "raw higher"]:
            if name != "closed_form" or steps == "1":
                row = ["--model", args.model, "--batch", str(args.batch), "--steps", steps]
                command = [sys.executable, "-m", "benchmarks.meta_gradient", *row, "--one", name]
                subprocess.run(command, check=False)


if __name__ == "__main__":
    main()
