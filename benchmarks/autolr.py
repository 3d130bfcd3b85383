"""CPU time that AutoLR's fits add to a run, beside the cost that is counted for them.

    python -m benchmarks.autolr [--seconds 20]

Prints the time of a run as a ratio to the time of a run without fits: median over rounds, with its
95 % bootstrap confidence interval. A round is 128 of the training loop's own steps in the explore
phase. Let u be the mean time of a step with a fit, in units of a step without. Then the ratio is
((M - 1) + u) / M. A fit uses K batches at P multiples of the learning rate, and there is one fit
every M steps. Its counted cost is K P / (3 M) of the run, because a forward pass counts as a third
of a step. The aim follows from this cost.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import torch

from benchmarks.interleaved import line, rounds_within, seconds, summary
from benchmarks.loop import stepper
from meta_lr.methods.autolr.method import AutoLR
from meta_lr.tasks.base import Task
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models.convnets import CNN3, LeNet

STEPS = 128  # of a round
CASES = ((10, 100), (10, 25), (1, 4))  # K, M


def one_round(task: Task, batches: int) -> float:
    """Return the time of a step with a fit, in units of a step without."""
    method = AutoLR(0.01, explore=1.0, batches=batches, period=16)
    run = stepper(task, method, STEPS)
    took: dict[bool, list[float]] = {True: [], False: []}
    for step in range(STEPS):
        took[method.is_due(step, STEPS)].append(seconds(partial(run.take, step)))
    return statistics.fmean(took[True][1:]) / statistics.fmean(took[False])  # the first loads code


def compare(name: str, task: Task, budget: float) -> None:
    """Print a row for each case, from as many rounds as the CPU time allows."""
    for batches, period in CASES:
        found = rounds_within(budget, partial(one_round, task, batches))
        ratios = [1 + (fit - 1) / period for fit in found]
        counted = 1 + batches * len(AutoLR().multiples) / (3 * period)
        text = f"AutoLR, K={batches}, M={period} / without fits, {name}"
        print(line(text, summary(ratios), counted), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="What AutoLR's fits add to a run.")
    parser.add_argument("--seconds", type=float, default=20.0, help="of CPU time, for each row")
    args = parser.parse_args()
    torch.set_num_threads(1)
    compare("LeNet, batch 16", digits(LeNet, size=16, batch_size=16), args.seconds)
    compare("CNN3, batch 128", digits(CNN3, batch_size=128), args.seconds)


if __name__ == "__main__":
    main()
