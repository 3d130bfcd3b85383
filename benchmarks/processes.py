"""CPU time of our loop in two processes, against `DistributedDataParallel` by hand.

    torchrun --standalone --nproc-per-node=2 -m benchmarks.processes [--rounds 10]

Both sides run in turn in the same two processes, with gloo, on the same task, model, optimizer and
batches, half of each batch per process. The ratio is that of the first process: median over rounds,
with its 95 % bootstrap confidence interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks import loop
from benchmarks.interleaved import line, ratio
from meta_lr.tasks.base import Batch
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models.convnets import CNN3
from meta_lr.tasks.models.resnet import ResNet
from meta_lr.training.compute import Compute


def half(batch: Batch) -> Batch:
    """Return this process's half of a batch."""
    return tuple(tensor.chunk(2)[dist.get_rank()] for tensor in batch)


def compare(name: str, model: Callable[..., torch.nn.Module], rounds: int) -> None:
    task = digits(model, batch_size=128, seed=0)
    result = ratio(
        partial(loop.ours, task, Compute(parts=2)),
        partial(loop.by_hand, task, DistributedDataParallel, half),
        rounds=rounds,
    )
    if dist.get_rank() == 0:
        print(line(f"two processes / by hand, {name} on digits", result, 1.05), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Our loop in two processes, against DDP by hand.")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    compare("CNN3", CNN3, args.rounds)
    compare("ResNet-8", partial(ResNet, depth=8), args.rounds)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
