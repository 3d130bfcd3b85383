"""How well trials distinguish two learning rates, with common batches or with separate batches.

    python -m benchmarks.common_batches

The run is LeNet on digits with wrong labels, as in docs/results. At steps where a stage could
begin, it runs pairs of trials: one with a learning rate and one with twice that learning rate. A
trial holds its learning rate for forty steps and then measures the loss over eight batches, as in
AutoLRS. A search uses the difference between the two losses, so the spread of this difference over
the pairs is the noise of the search.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean, stdev
from typing import Any

import torch

from meta_lr.protocol import Need, NoState, StepView
from meta_lr.records.reader import Record
from meta_lr.tasks.base import Task
from meta_lr.tasks.digits import digits
from meta_lr.tasks.models import LeNet
from meta_lr.training.loop import train

STEPS, BATCHES = 40, 8


@dataclass(frozen=True)
class Pairs:
    """A constant learning rate; at some steps it runs pairs of trials and notes the differences."""

    rate: float
    at: Sequence[int]
    count: int
    needs = Need.TRIALS

    def init(self) -> NoState:
        return NoState()

    def __call__(self, view: StepView, state: NoState) -> tuple[float, NoState]:
        if view.step in self.at:
            for pair in range(self.count):
                low = self._loss(view, self.rate, pair)
                same = self._loss(view, 2 * self.rate, pair)
                own = self._loss(view, 2 * self.rate, self.count + pair)
                view.sandbox.note(same=same - low, own=own - low)
        return self.rate, state

    def _loss(self, view: StepView, rate: float, which: int) -> float:
        """Return the mean loss after a trial on the batches with that number."""
        with view.sandbox.trial(which * (STEPS + BATCHES)) as trial:
            for _ in range(STEPS):
                trial.step(rate)
            return mean(trial.train_losses(BATCHES))


def differences(task: Task, rate: float, at: Sequence[int], count: int) -> dict[int, list[Any]]:
    """Return the differences of all pairs, by the step at which they began."""
    rows: list[Any] = []
    make = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    train(task, make, Pairs(rate, at, count), total_steps=max(at) + 1, listener=rows.append)
    found = Record(rows).searches
    return {step: [row for row in found if row["step"] == step] for step in at}


def main() -> None:
    parser = argparse.ArgumentParser(description="The noise of a search, by the trials' batches.")
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--at", type=int, nargs="+", default=[160, 480, 1200])
    parser.add_argument("--pairs", type=int, default=40)
    options = parser.parse_args()
    task = digits(LeNet, size=16, batch_size=16, crop_padding=2, noise="uniform", noise_share=0.4)
    print("| step | mean difference | spread, the same batches | spread, batches of its own |")
    print("| ---: | ---: | ---: | ---: |")
    for step, rows in differences(task, options.rate, options.at, options.pairs).items():
        same, own = ([row[name] for row in rows] for name in ("same", "own"))
        print(f"| {step} | {mean(same + own):+.3f} | {stdev(same):.3f} | {stdev(own):.3f} |")


if __name__ == "__main__":
    main()
