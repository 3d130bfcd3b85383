"""How many of AutoLR's fits are accepted on a noisy quadratic, and how large their errors are.

    python -m benchmarks.fits

On a quadratic, the minimiser along a step is known: (H e)'u / (u'Hu). Here e is the vector from the
optimum to the weights, and u is what the optimizer subtracts per unit of learning rate. There are
three runs of 100 steps of SGD with momentum 0.9, with a fit every second step. The table shows the
results by the batches of a fit and by the largest error of its optimum that is accepted.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import torch

from meta_lr.methods.autolr.method import AutoLR, AutoLRState
from meta_lr.protocol import StepView
from meta_lr.records.reader import Record
from meta_lr.tasks.quadratic import Quadratic
from meta_lr.training.line import line
from meta_lr.training.loop import train


@dataclass(frozen=True)
class Watched(AutoLR):
    """AutoLR on a quadratic; it notes the known minimiser before each fit."""

    task: Quadratic = field(default_factory=Quadratic)

    def _fitted(self, view: StepView, state: AutoLRState) -> AutoLRState:
        ahead, task = line(view), self.task
        u, w = ahead.step[0].double(), ahead.start[0].detach().double()
        best = (task.hessian @ (w - task.optimum)) @ u / (u @ task.hessian @ u)
        view.sandbox.note(what="known", optimum=float(best))
        return super()._fitted(view, state)


def main() -> None:
    parser = argparse.ArgumentParser(description="The fits of AutoLR on a noisy quadratic.")
    parser.add_argument("--batches", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.1, 0.5])
    options = parser.parse_args()
    print("| noise | batches | most_error | accepted | of these within 5 % | worst |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for noise, batches, most in product(options.noise, options.batches, (None, 0.05, 0.02)):
        errors, count = wrong(noise, batches, most)
        near = f"{sum(error < 0.05 for error in errors)} | {max(errors):.1%}" if errors else " | "
        limit = "null" if most is None else most
        print(f"| {noise} | {batches} | {limit} | {len(errors)} of {count} | {near} |", flush=True)


def wrong(noise: float, batches: int, most: float | None) -> tuple[list[float], int]:
    """Return the relative error of each accepted optimum, and the number of fits."""
    rows: list[Any] = []
    make = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    options = {"explore": 0.0, "period": 2, "batches": batches, "most_error": most}
    for seed in range(3):
        task = Quadratic(noise=noise, seed=seed)
        train(
            task, make, Watched(0.05, task=task, **options), total_steps=100, listener=rows.append
        )
    found = Record(rows).searches
    pairs = list(zip(found[::2], found[1::2], strict=True))
    accepted = [(known, fit) for known, fit in pairs if fit["accepted"]]
    return [abs(fit["optimum"] / known["optimum"] - 1) for known, fit in accepted], len(pairs)


if __name__ == "__main__":
    main()
