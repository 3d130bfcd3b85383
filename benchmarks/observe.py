"""Time of a loaded checkpoint's `observe` and hook against the same cell as torch modules.

    python -m benchmarks.observe

Prints the CPU time per step with one thread as a ratio: median over rounds, with its 95 % bootstrap
confidence interval. The optimizer's own step is subtracted from both.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.interleaved import line, ratio
from meta_lr.checkpoint import load_pretrained
from meta_lr.drop_in.scheduler import ControlledLR

STEPS, ROUNDS, HIDDEN = 1000, 40, 50


class Cell(nn.Module):
    """MLR-SNet's cell, written with torch's modules in the usual way."""

    def __init__(self) -> None:
        super().__init__()
        narrow = HIDDEN // 2
        self.x = nn.Sequential(nn.Linear(1, narrow), nn.ReLU(), nn.Linear(narrow, 4 * HIDDEN))
        self.h = nn.Sequential(nn.Linear(HIDDEN, narrow), nn.ReLU(), nn.Linear(narrow, 4 * HIDDEN))
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, loss: Tensor, memory: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple]:
        h, c = memory
        i, f, o, g = (self.x(loss.reshape(1)) + self.h(h)).chunk(4)
        c = torch.sigmoid(f - 1) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return torch.sigmoid(self.head(h)), (h, c)


def optimizer() -> torch.optim.Optimizer:
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    return torch.optim.SGD([parameter], lr=0.1)


def seconds(step: Callable[[Tensor], None]) -> float:
    loss = torch.tensor(1.0)
    start = time.process_time()
    for _ in range(STEPS):
        step(loss)
    return (time.process_time() - start) / STEPS


def bare() -> float:
    alone = optimizer()
    return seconds(lambda loss: alone.step())


def ours() -> float:
    own = optimizer()
    scheduler = ControlledLR(own, load_pretrained("mlr-snet-cifar10"), total_steps=STEPS)

    def step(loss: Tensor) -> None:
        scheduler.observe(loss)
        own.step()

    return seconds(step) - bare()


def modules() -> float:
    own, cell = optimizer(), Cell()
    memory = torch.zeros(HIDDEN), torch.zeros(HIDDEN)

    def step(loss: Tensor) -> None:
        nonlocal memory
        with torch.no_grad():
            p, memory = cell(loss, memory)
        own.param_groups[0]["lr"] = float(p)
        own.step()

    return seconds(step) - bare()


def main() -> None:
    torch.set_num_threads(1)
    result = ratio(ours, modules, rounds=ROUNDS)
    print(line("observe and hook / the cell as torch modules", result, 1 / 3))
    print(f"{'':58}{1e6 * ours():.1f} us against {1e6 * modules():.1f} us on this machine")


if __name__ == "__main__":
    main()
