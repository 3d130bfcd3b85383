"""CPU time of the inner loop of meta-training: copies side by side, by kind of network.

    python -m benchmarks.meta_training [--rounds 12]

For each kind of network, it prints the copy-steps per second of 32 copies with a self-tuning
schedule. It prints the time of a step of these copies as a ratio to 32 steps of one copy, and as a
ratio to a step of a hand-written `torch.func` loop of plain SGD without a schedule. Each ratio is a
median over rounds, with its 95 % bootstrap confidence interval. All sides run in turn, on the same
problem and batches.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from benchmarks.interleaved import Ratio, seconds, summary
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.problems import Problem
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models.mlp import MLP
from meta_lr.tasks.models.small import RowAttention, SmallConv
from meta_lr.training.sandbox import LossModule

COPIES, STEPS, BATCH = 32, 12, 16
RATE = 0.01  # of the hand-written loop: its results do not matter
KINDS: dict[str, Callable[..., torch.nn.Module]] = {
    "mlp": partial(MLP, hidden=(24, 24)),
    "conv": partial(SmallConv, channels=(4, 8)),
    "conv with GroupNorm": partial(SmallConv, channels=(4, 8), normalised=True),
    "attention": partial(RowAttention, width=16),
}


def problem_of(kind: str) -> Problem:
    """Return an inner problem with this kind of network, on digits, for plain SGD."""
    task = digits(KINDS[kind], batch_size=BATCH, seed=0)
    return Problem(kind, task, partial(torch.optim.SGD, lr=1.0), STEPS + 1)


def steered(problem: Problem, count: int) -> Callable[[], object]:
    """Return a function that takes `STEPS` steps of `count` copies with a self-tuning schedule."""
    copies = Copies(problem, SelfTuning(NETWORK.init(0)), count)
    phi = tuple(weight.expand(count, *weight.shape).clone() for weight in NETWORK.init(0))
    point = copies.run(copies.start(), phi, 0, 1)  # the first step differs from the others
    return lambda: copies.run(point, phi, 1, STEPS)


def by_hand(problem: Problem) -> Callable[[], dict[str, Tensor]]:
    """Return a function that takes `STEPS` steps of `COPIES` copies at a fixed learning rate."""
    task, model = problem.task, problem.task.model().train()
    lossy = LossModule(model, task.loss)
    params = {
        f"model.{k}": p.detach().expand(COPIES, *p.shape) for k, p in model.named_parameters()
    }
    slopes = vmap(grad_and_value(partial(functional_call, lossy)), in_dims=(0, None))

    def train() -> dict[str, Tensor]:
        moved = params
        for step in range(STEPS):
            grads, _ = slopes(moved, (task.batch("train", step),))
            moved = {name: p - RATE * grads[name] for name, p in moved.items()}
        return moved

    return train


def one_round(ways: Sequence[Callable[[], object]]) -> list[float]:
    """Return the CPU time of each way, in seconds per step of one copy or of all."""
    return [seconds(way) / STEPS for way in ways]


def compare(kind: str, rounds: int) -> str:
    """Return a row of the table."""
    problem = problem_of(kind)
    ways = steered(problem, COPIES), steered(problem, 1), by_hand(problem)
    times = [one_round(ways) for _ in range(rounds + 1)][1:]  # the first one is a warm-up
    speed = median(COPIES / together for together, _, _ in times)
    alone = summary([together / (COPIES * one) for together, one, _ in times])
    hand = summary([together / bare for together, _, bare in times])
    return f"{kind:22}{speed:12,.0f}   {_shown(alone)}   {_shown(hand)}"


def _shown(ratio: Ratio) -> str:
    return f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description="The meta-training's inner loop.")
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = f"step of {COPIES} / {COPIES} steps of 1", "step / by hand, no schedule"
    print(f"{'network':22}{'copy-steps/s':>12}   {names[0]:23}   {names[1]}")
    for kind in KINDS:
        print(compare(kind, args.rounds), flush=True)


if __name__ == "__main__":
    main()
