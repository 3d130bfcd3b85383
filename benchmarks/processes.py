"""CPU time of our loop in two processes, against `DistributedDataParallel` by hand.

    torchrun --standalone --nproc-per-node=2 -m benchmarks.processes [--rounds 10]

Both sides run in turn in the same two processes, with gloo, on the same task, model, optimizer and
batches, half of each batch per process. The ratio is that of the first process: median over rounds,
with its 95 % bootstrap confidence interval.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks.interleaved import line, ratio
from meta_lr.methods.basic import Cosine
from meta_lr.tasks.base import Task
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models.convnets import CNN3
from meta_lr.tasks.models.resnet import ResNet
from meta_lr.training.compute import Compute
from meta_lr.training.loop import train

STEPS = 60
sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)


def ours(task: Task) -> float:
    """Return our loop's seconds per step, without the first step."""
    before: list[float] = []

    def clock() -> bool:
        before.append(time.process_time())
        return False

    halves, every = Compute(parts=2), STEPS + 1
    train(task, sgd, Cosine(0.1), total_steps=every, eval_every=every, compute=halves, stop=clock)
    return (before[STEPS] - before[1]) / (STEPS - 1)


def by_hand(task: Task) -> float:
    """Return the seconds per step of a usual loop with torch's own cosine."""
    model = DistributedDataParallel(task.model().train())
    optimizer = sgd(model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    start, losses = 0.0, []
    for step in range(STEPS):
        batch = tuple(tensor.chunk(2)[dist.get_rank()] for tensor in task.batch("train", step))
        loss = task.loss(model, batch)
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
