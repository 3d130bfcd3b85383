"""The card of a checkpoint: what it was trained on, and what its rate did."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch

from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet, OnlineState
from meta_lr.records.reader import Record

FEW_UPDATES = 20  # with fewer, Adam at 1e-3 has hardly moved phi from its first values

_CARD = """\
---
license: apache-2.0
library_name: meta_lr
tags: [learning-rate, meta-learning]
---

# {name}

A learning-rate schedule for PyTorch that was meta-learned: a small network ({net}) that reads the
training loss{read} and gives the rate of the step. Method: MLR-SNet, {paper}.

```python
scheduler = meta_lr.ControlledLR(optimizer, meta_lr.load_pretrained("{place}"){total})
```

## Meta-training

| | |
|---|---|
| task, model | {task}, {model} |
| optimizer | {optimizer} |
| length | {steps:,} steps ({epochs:.1f} epochs), seed {seed} |
| cost | {cost:,.0f} plain steps |
| updates of phi | {updates:.0f}: every {period} steps, look-ahead {look_ahead}, Adam {meta_lr:g} |
| rate at full output (gamma) | {gamma:.4g} |
| losses seen | {low:.4g} to {high:.4g} |
| stages | {stages} |

## What the rate did along that run

| part of the run | {parts} |
|---|{rules}|
| mean rate | {means} |
| std / mean within the part | {spreads} |

Over the whole run the rate went from {first:.4g} to {last:.4g}; its standard deviation is
{variation:.1%} of its mean (0 % would be a constant rate). phi moved {moved}.

## What it does with the loss

The rate after 50 steps at a constant loss, from an empty memory. Equal numbers in a row mean that
the network does not listen to the loss: that stage is a constant.

| loss | {levels} | largest / smallest |
|---|{level_rules}|---|
{responses}

## Limits

{hardly}One meta-training run on one task.
The rate at full output was learned with {optimizer}; with another optimizer pass `peak=`.
Losses above the range that was seen are an extrapolation.
"""


def card(
    record: Record,
    controller: OnlineMLRSNet,
    state: OnlineState,
    *,
    name: str,
    place: Path,
    paper: str,
) -> str:
    """Return the card as Markdown.

    Args:
        record: Of the meta-training run.
        controller: Its method.
        state: The method's last state.
        name: Title of the card.
        place: Where the checkpoint is.
        paper: Reference of the method.
    """
    head, end = record.header, record.end
    rates = [row["lr"] for row in record.steps]
    tenths = _tenths(rates)
    learned = controller.export(state)
    num_stages = len(learned.stages)
    levels = [state.low + (state.high - state.low) * i / 4 for i in range(5)]
    few, features = float(state.updates) < FEW_UPDATES, learned.features
    return _CARD.format(
        name=name,
        hardly="phi was hardly updated: this is close to an untrained network. " if few else "",
        place=place.as_posix(),
        total=", total_steps=len(loader) * epochs" if len(controller.snapshots) > 1 else "",
        paper=paper,
        net=controller.net,
        read="" if features.raw else f" (as {', '.join(features.names)})",
        task=head["task"],
        model=head["model"],
        optimizer=head["optimizer"],
        seed=head["seed"],
        steps=end["steps"],
        epochs=end["steps"] / head["steps_per_epoch"],
        cost=end["cost"],
        updates=float(state.updates),
        period=controller.period,
        look_ahead=controller.look_ahead,
        meta_lr=controller.meta_lr,
        gamma=state.gamma,
        low=state.low,
        high=state.high,
        stages=num_stages,
        parts=" | ".join(f"{i * 100 // len(tenths)} %" for i in range(1, len(tenths) + 1)),
        rules="|".join("---" for _ in tenths),
        means=" | ".join(f"{statistics.fmean(part):.4g}" for part in tenths),
        spreads=" | ".join(f"{_variation(part):.2%}" for part in tenths),
        first=rates[0],
        last=rates[-1],
        variation=_variation(rates),
        moved=_moved(controller, state),
        levels=" | ".join(f"{level:.3g}" for level in levels),
        level_rules="|".join("---" for _ in levels),
        responses="\n".join(
            _response(learned, stage, levels, end["steps"]) for stage in range(num_stages)
        ),
    )


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


def _response(learned: Learned, stage: int, levels: Sequence[float], steps: int) -> str:
    """Return the row of a stage: its settled rate for each level of the loss."""
    rates = [_settled(learned, stage, level, steps) for level in levels]
    cells = " | ".join(f"{rate:.4g}" for rate in rates)
    return f"| stage {stage + 1} | {cells} | {ratio(rates):.3f} |"


def _settled(learned: Learned, stage: int, loss: float, steps: int) -> float:
    weights, memory, rate = learned.stages[stage], learned.init().memory, torch.tensor(0.0)
    for step in range(50):
        rate, memory = learned.pure(
            weights, torch.tensor(loss), memory, step=step, total_steps=steps
        )
    return rate.item()


def _moved(controller: OnlineMLRSNet, state: OnlineState) -> str:
    """Return in words how far phi is from its first values, relative to their norm."""
    start = controller.init().phi
    far = sum(float((p - q).square().sum()) for p, q in zip(state.phi, start, strict=True))
    first = sum(float(q.square().sum()) for q in start)
    if first == 0.0:
        return f"from zero to a norm of {math.sqrt(far):.3g}"
    return f"by {math.sqrt(far / first):.1%} of its first norm"
