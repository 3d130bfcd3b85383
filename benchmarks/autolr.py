"""What AutoLR's fits add to a run, in CPU time, beside what is counted for them.

    python -m benchmarks.autolr [--rounds 20]

Prints the time of a run as a ratio: median over rounds, with its 95 % bootstrap interval. One side
fits and does not follow, as in the explore phase, the other has the same rate without fits; both
run in turn, on the same task, model, optimizer and batches. K batches at P multiples of the rate
each M steps are counted as K P / (3 M) of the run, by which the aim is set: a forward pass as a
third of a step.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from benchmarks.interleaved import line, ratio, seconds
from benchmarks.loop import sgd
from meta_lr.baselines.autolr import AutoLR
from meta_lr.baselines.policies import Constant
from meta_lr.protocol import Controller
from meta_lr.tasks.base import Task
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models.convnets import CNN3, LeNet
from meta_lr.training.loop import train

RATE, STEPS = 0.01, 200
CASES = ((10, 100), (10, 25), (1, 4))  # K, M


def spent(task: Task, method: Controller) -> float:
    """Return the seconds of a run."""
    run = partial(train, task, sgd, method, total_steps=STEPS, eval_every=STEPS, test=False)
    return seconds(run)


def compare(name: str, task: Task, rounds: int) -> None:
    for batches, period in CASES:
        method = AutoLR(RATE, explore=1.0, batches=batches, period=period)
        counted = 1 + batches * len(method.multiples) / (3 * period)
        fits, plain = (partial(spent, task, m) for m in (method, Constant(RATE)))
        text = f"AutoLR, K={batches}, M={period} / constant, {name}"
        print(line(text, ratio(fits, plain, rounds=rounds), counted), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="What AutoLR's fits add to a run.")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    compare("LeNet, batch 16", digits(LeNet, size=16, batch_size=16), args.rounds)
    compare("CNN3, batch 128", digits(CNN3, batch_size=128), args.rounds)


if __name__ == "__main__":
    main()
