"""Checks on a CUDA device, each a ratio of two sides that take turns in one run.

    python -m benchmarks.gpu [--seconds 20]        or: make gpu

The model is ResNet-50 at 224 pixels with a batch of 256 synthetic images, in bf16 and
channels_last. Times are wall-clock times between two synchronisations of the device. Without a
CUDA device, the script says so and ends.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from benchmarks.interleaved import Ratio, line, summary
from meta_lr.checkpoint import load_pretrained
from meta_lr.methods.basic import Constant, Cosine
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.protocol import Controller
from meta_lr.tasks.base import Batch, Split
from meta_lr.training.compute import Compute
from meta_lr.training.stepper import Stepper

CUDA, BF16 = "cuda", Compute(precision="bf16", channels_last=True)
STEPS = 1_000_000  # of the runs, of which a benchmark takes the first ones
sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-4)


@dataclass(frozen=True)
class Synthetic:
    """Random images that stay on the device, so that only the steps take time."""

    batch_size: int = 256
    size: int = 224
    name: str = field(default="synthetic", init=False)
    num_classes: int = field(default=1000, init=False)

    def model(self) -> nn.Module:
        """Return a ResNet-50."""
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return torchvision.models.resnet50()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy ()."""
        return F.cross_entropy(model(batch[0]), batch[1])

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss."""
        return {"loss": self.loss(model, batch)}

    def num_batches(self, split: Split) -> int:
        """Return the length of an epoch of ImageNet."""
        return 5004

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return the one batch, which was made before."""
        return _batch(self.batch_size, self.size)


_BATCHES: dict[tuple[int, int], Batch] = {}


def _batch(batch_size: int, size: int) -> Batch:
    if (batch_size, size) not in _BATCHES:
        images = torch.randn(batch_size, 3, size, size, device=CUDA)
        images = images.contiguous(memory_format=torch.channels_last)
        _BATCHES[batch_size, size] = images, torch.randint(1000, (batch_size,), device=CUDA)
    return _BATCHES[batch_size, size]


def stepper(controller: Controller, compute: Compute = BF16) -> Callable[[], Any]:
    """Return a function that takes the next step of our loop."""
    run = Stepper(
        Synthetic(),
        sgd,
        controller,
        total_steps=STEPS,
        seed=0,
        clip=None,
        device=torch.device(CUDA),
        compute=compute,
        stop=lambda: False,
    )
    steps = iter(range(STEPS))
    return lambda: run.take(next(steps))


def bare() -> Callable[[], Any]:
    """Return a function that takes the next step of a usual loop by hand."""
    task = Synthetic()
    model = task.model().to(CUDA, memory_format=torch.channels_last).train()
    optimizer = sgd(model.parameters())

    def step() -> None:
        with torch.autocast(CUDA, torch.bfloat16):
            loss = task.loss(model, task.batch("train", 0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def timed(step: Callable[[], Any], count: int) -> float:
    """Return the wall-clock seconds of `count` steps."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def compared(ours: Callable[[], Any], peer: Callable[[], Any], seconds: float) -> Ratio:
    """Time both in turn for about so many seconds; the first turn is a warm-up."""
    timed(ours, 3), timed(peer, 3)
    ratios, until = [], time.perf_counter() + seconds
    while len(ratios) < 6 or time.perf_counter() < until:
        ratios.append(timed(ours, 5) / timed(peer, 5))
    return summary(ratios)


def waits(step: Callable[[], Any]) -> float:
    """Return how often the host waits for the device in a step, by the profiler."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for _ in range(5):
            step()
    names = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
    return sum(row.count for row in found.key_averages() if row.key in names) / 5


def peak(make: Callable[[], Callable[[], Any]]) -> int:
    """Return the largest memory in bytes over some steps."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    timed(make(), 3)
    return torch.cuda.max_memory_allocated()


def main() -> None:
    parser = argparse.ArgumentParser(description="Checks on a CUDA device.")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each ratio")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: there is no CUDA device")
        return
    online = OnlineMLRSNet(LSTM(hidden=50), gamma=0.1, period=100)
    learned = load_pretrained()
    aims = {
        "constant / bare loop": (stepper(Constant(0.1)), bare(), 1.03),
        "learned schedule / bare loop": (stepper(learned), bare(), 1.03),
        "online MLR-SNet, T = 100 / constant": (stepper(online), stepper(Constant(0.1)), 1.03),
    }
    for name, (ours, peer, aim) in aims.items():
        print(line(name, compared(ours, peer, args.seconds), aim), flush=True)
    compiled = stepper(
        Cosine(0.1), Compute(precision="bf16", channels_last=True, compile="default")
    )
    print(line("compiled / eager", compared(compiled, stepper(Cosine(0.1)), args.seconds), 0.95))
    for name, controller, precision, aim in (
        ("constant", Constant(0.1), "bf16", 0),
        ("learned", learned, "bf16", 1),
        ("fp16", Constant(0.1), "fp16", 1),
    ):
        found = waits(stepper(controller, Compute(precision=precision, channels_last=True)))
        print(f"waits of the host in a step, {name}: {found:g}  aim {aim}")
    memory = peak(lambda: stepper(Constant(0.1))) / peak(bare)
    print(f"peak memory / bare loop: {memory:.3f}  aim 1.05")


if __name__ == "__main__":
    main()
