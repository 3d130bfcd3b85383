"""Time and memory of the hypergradient estimators, CNN3 or ResNet-8 at 32 x 32, batch 128.

    python -m benchmarks.meta_gradient [--model cnn3] [--steps 1,5,20,50,100] [--batch 128]
    python -m benchmarks.meta_gradient --model resnet8 --steps 200 --only adjoint

Each number comes from a process of its own, with one thread, on the same random images. Time is CPU
time in plain training steps, which are timed before and after. Short unrolls are repeated, and the
result is the median. Memory is the peak of an unroll minus the peak of plain steps, in MB of 2**20
bytes, as the kernel counts it (`benchmarks.memory`). For the measurement of memory, the allocator
gives freed blocks back at once, so gaps between blocks of other sizes do not count. "plain" is K
plain training steps. "raw higher" is the usual recipe with the library alone.

The estimators that go back step by step (adjoint, first order) need the graph of one step for every
K, and

    K x (weights + optimizer state + buffers),

which the last column predicts. The graphs of an unroll with `higher` grow with K instead.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.interleaved import seconds
from benchmarks.memory import peak_of
from meta_lr.bilevel.estimators import Adjoint, ClosedForm, FirstOrder, Unroll
from meta_lr.bilevel.objectives import Final
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.optim import rules
from meta_lr.protocol import StepView
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
WALKED_BACK = ("first_order", "adjoint")
NAMES = ("plain", *ESTIMATORS, "raw higher")


@dataclass
class Problem:
    """A run with momentum that is paused after the gradient of its second step."""

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

    def look_ahead(self, name: str, steps: int) -> None:
        """Unroll `steps` steps with the estimator of this name, and compute the hypergradient."""
        if name == "plain":
            self.plain(steps)
        elif name == "raw higher":
            self.raw_higher(steps)
        else:
            self.estimate(name, steps)

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


def kept(problem: Problem, steps: int) -> float:
    """Return K x (weights + optimizer state + buffers) in MB: the stored data of an adjoint."""
    slots = [value for slot in problem.optimizer.state.values() for value in slot.values()]
    tensors = [*problem.model.parameters(), *problem.model.buffers(), *slots]
    size = sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))
    return steps * size / 2**20


def plain_steps(problem: Problem, name: str, steps: int) -> float:
    """Return the time of an unroll, in plain steps."""
    count = min(max(steps, 5), 20)
    problem.plain(3)
    before = seconds(lambda: problem.plain(count))
    act = partial(problem.look_ahead, name, steps)
    took = statistics.median(seconds(act) for _ in range(max(1, 10 // steps)))
    return 2 * count * took / (before + seconds(lambda: problem.plain(count)))


def megabytes(problem: Problem, name: str, steps: int) -> float:
    """Return the peak memory of an unroll minus that of plain steps."""
    below = peak_of(lambda: problem.plain(3))
    return peak_of(lambda: problem.look_ahead(name, steps)) - below


MEASURES = {"time": plain_steps, "memory": megabytes}


def measure(what: str, model: str, name: str, steps: int, batch_size: int) -> None:
    """Print one number."""
    import higher  # noqa: F401  # so that its import counts neither as time nor as memory

    torch.set_num_threads(1)
    print(MEASURES[what](Problem(MODELS[model](), batch_size), name, steps))


def apart(what: str, *arguments: object) -> float:
    """Return the number that `measure` prints in a process of its own."""
    call = f"measure({', '.join(map(repr, (what, *arguments)))})"
    code = f"from benchmarks.meta_gradient import measure; {call}"
    own = {"MALLOC_MMAP_THRESHOLD_": "65536"} if what == "memory" else {}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **own}, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ways to the meta-gradient: time and memory.")
    parser.add_argument("--model", default="cnn3", choices=MODELS)
    parser.add_argument("--steps", default="1,5,20,50,100", help="values of K")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--only", choices=NAMES, help="one way")
    args = parser.parse_args()
    problem = Problem(MODELS[args.model](), 2)
    print(
        "model    way             K in plain steps  per step  MB above plain  K states", flush=True
    )
    for steps in map(int, args.steps.split(",")):
        for name in [args.only] if args.only else NAMES:
            if name != "closed_form" or steps == 1:
                which = (args.model, name, steps, args.batch)
                took, extra = (apart(what, *which) for what in MEASURES)
                law = f"{kept(problem, steps):9.1f}" if name in WALKED_BACK else ""
                row = f"{args.model:8} {name:12} {steps:4} {took:14.1f} {took / steps:9.2f}"
                print(f"{row} {extra:15.1f} {law}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
