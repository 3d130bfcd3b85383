"""The card of a checkpoint: what it was trained on, and what its rate did."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import torch

from meta_lr.checkpoint import PAPER
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet, OnlineState
from meta_lr.records.reader import Record
from meta_lr.vectors import Tensors

FEW_UPDATES = 20  # with fewer, Adam at 1e-3 has hardly moved phi from its first values


def card(
    record: Record, controller: OnlineMLRSNet, state: OnlineState, *, name: str, place: Path
) -> str:
    """Return the card, in Markdown, of the checkpoint `place` from the record of its meta-training.

    `state` is the last state of the method `controller`; `name` is the title.
    """
    head, end = record.header, record.end
    rates = [row["lr"] for row in record.steps]
    tenths = _tenths(rates)
    learned = controller.export(state)
    levels = [state.low + (state.high - state.low) * i / 4 for i in range(5)]
    total = ", total_steps=len(loader) * epochs" if len(controller.snapshots) > 1 else ""
    names = ", ".join(learned.features.names)
    few = float(state.updates) < FEW_UPDATES
    return f"""\
---
license: apache-2.0
library_name: meta_lr
tags: [learning-rate, meta-learning]
---

# {name}

A learning-rate schedule for PyTorch that was meta-learned: a small network \
({controller.net}) that reads the
training loss{"" if learned.features.raw else f" (as {names})"} and gives the rate of the step. \
Method: MLR-SNet, {PAPER}.

```python
scheduler = meta_lr.ControlledLR(optimizer, meta_lr.load_pretrained("{place.as_posix()}"){total})
```

## Meta-training

| | |
|---|---|
| task, model | {head["task"]}, {head["model"]} |
| optimizer | {head["optimizer"]} |
| length | {end["steps"]:,} steps ({end["steps"] / head["steps_per_epoch"]:.1f} epochs), \
seed {head["seed"]} |
| cost | {end["cost"]:,.0f} plain steps |
| updates of phi | {float(state.updates):.0f}: every {controller.period} steps, look-ahead \
{controller.look_ahead}, Adam {controller.meta_lr:g} |
| maximum learning rate (gamma) | {state.gamma:.4g} |
| losses seen | {state.low:.4g} to {state.high:.4g} |
| stages | {len(learned.stages)} |

## What the rate did along that run

| part of the run | {_cells(f"{i * 100 // len(tenths)} %" for i in range(1, len(tenths) + 1))} |
|---|{"|".join("---" for _ in tenths)}|
| mean rate | {_cells(f"{statistics.fmean(part):.4g}" for part in tenths)} |
| std / mean within the part | {_cells(f"{_variation(part):.2%}" for part in tenths)} |

Over the whole run the rate went from {rates[0]:.4g} to {rates[-1]:.4g}; its standard deviation is
{_variation(rates):.1%} of its mean (0 % would be a constant rate). phi moved \
{_moved(controller, state)}.

## What it does with the loss

The rate after 50 steps at a constant loss, from an empty memory. Equal numbers in a row mean that
the network does not listen to the loss: that stage is a constant.

{responses([f"{level:.3g}" for level in levels], _settled(learned, levels, end["steps"]), ".4g")}

## Limits

{"phi was hardly updated: this is close to an untrained network. " if few else ""}\
One meta-training run on one task.
The maximum learning rate was learned with {head["optimizer"]}; with another optimizer pass `peak=`.
Losses above the range that was seen are an extrapolation.
"""


def responses(levels: Sequence[str], rows: Sequence[Sequence[float]], form: str) -> str:
    """Return the table, in Markdown, of the number that each stage settles to at each loss.

    `rows` are these numbers per stage; `form` is how they are written, such as ".4g".
    """
    lines = [
        f"| loss | {_cells(levels)} | largest / smallest |",
        f"|---|{'---|' * len(levels)}---|",
    ]
    for i, row in enumerate(rows, 1):
        lines.append(f"| stage {i} | {_cells(f'{x:{form}}' for x in row)} | {ratio(row):.3f} |")
    return "\n".join(lines)


def _cells(cells: Iterable[str]) -> str:
    return " | ".join(cells)


def ratio(values: Sequence[float]) -> float:
    """Return the largest over the smallest of numbers >= 0; infinite if only the smallest is 0.

    >>> ratio([0.1, 0.2]), ratio([0.0, 0.2]), ratio([0.0, 0.0])
    (2.0, inf, 1.0)
    """
    low, high = min(values), max(values)
    return 1.0 if low == high else high / low if low else math.inf


def _tenths(rates: Sequence[float]) -> list[Sequence[float]]:
    num = min(10, len(rates))
    bounds = [len(rates) * i // num for i in range(num + 1)]
    return [rates[start:end] for start, end in pairwise(bounds)]


def _variation(rates: Sequence[float]) -> float:
    mean = statistics.fmean(rates)
    return statistics.pstdev(rates) / mean if mean else 0.0


def _settled(learned: Learned, losses: Sequence[float], steps: int) -> list[list[float]]:
    """Return, per stage, the rate after 50 steps at each of the losses."""
    return [[_after_50(learned, phi, loss, steps) for loss in losses] for phi in learned.stages]


def _after_50(learned: Learned, phi: Tensors, loss: float, steps: int) -> float:
    memory, rate = learned.init().memory, torch.tensor(0.0)
    for step in range(50):
        rate, memory = learned.pure(phi, torch.tensor(loss), memory, step=step, total_steps=steps)
    return rate.item()


def _moved(controller: OnlineMLRSNet, state: OnlineState) -> str:
    """Return in words how far phi is from its first values, relative to their norm."""
    start = controller.init().phi
    far = sum(float((p - q).square().sum()) for p, q in zip(state.phi, start, strict=True))
    first = sum(float(q.square().sum()) for q in start)
    if first == 0.0:
        return f"from zero to a norm of {math.sqrt(far):.3g}"
    return f"by {math.sqrt(far / first):.1%} of its first norm"
