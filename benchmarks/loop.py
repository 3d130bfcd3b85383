"""The training loop against a hand-written one, and online MLR-SNet against plain training.

    python -m benchmarks.loop

Prints time per step as ratios: median over rounds, with quartiles. Both sides of a ratio run in
turn, on the same task, model, optimizer and batches; ours writes its record to a temporary folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.interleaved import line, ratio
from meta_lr.baselines.policies import Cosine
from meta_lr.bilevel.online import OnlineMLRSNet
from meta_lr.protocol import Controller
from meta_lr.schedulers.lstm import LSTM
from meta_lr.tasks.base import Task
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models.convnets import CNN3
from meta_lr.tasks.models.resnet import ResNet
from meta_lr.training.loop import train

STEPS, ROUNDS = 100, 12
sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)


def ours(task: Task, controller: Controller) -> float:
    """Return our loop's seconds per step, from its own record."""
    seconds: list[float] = []

    def listen(row: dict) -> None:
        if row["kind"] == "step":
            seconds.append(row["seconds"])

    with tempfile.TemporaryDirectory() as folder:
        train(
            task,
            sgd,
            controller,
            total_steps=STEPS,
            folder=Path(folder),
            eval_every=STEPS,
            save_every=STEPS,
            listener=listen,
        )
    return (seconds[-1] - seconds[0]) / (STEPS - 1)


def by_hand(task: Task) -> float:
    """Return the seconds per step of the loop that one would write, with torch's own cosine."""
    model = task.model().train()
    optimizer = sgd(model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    start, losses = 0.0, []
    for step in range(STEPS):
        loss = task.loss(model, task.batch("train", step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        if step == 0:
            start = time.perf_counter()
    return (time.perf_counter() - start) / (STEPS - 1)


def compare(name: str, model: Callable[..., torch.nn.Module]) -> None:
    task = digits(model, batch_size=128, seed=0)
    plain = partial(ours, task, Cosine(peak=0.1))
    online = partial(ours, task, OnlineMLRSNet(LSTM(), gamma=0.1, period=100))
    against_hand = ratio(plain, partial(by_hand, task), rounds=ROUNDS)
    print(line(f"loop / by hand, {name} on digits", against_hand, 1.05), flush=True)
    learning = ratio(online, plain, rounds=ROUNDS)
    print(line(f"online MLR-SNet, T=100, K=1 / plain, {name}", learning, 1.05), flush=True)


if __name__ == "__main__":
    compare("CNN3", CNN3)
    compare("ResNet-8", partial(ResNet, depth=8))
