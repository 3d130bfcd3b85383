"""The LR range test on a model, optimizer and loader of your own, which it does not change."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from meta_lr.lrbench.range_test import (
    SAFETY,
    SMOOTHING,
    RangeTest,
    highest_of,
    refuse,
    suggest,
)
from meta_lr.methods.sweep import Sweep
from meta_lr.protocol import DivergedError, group_scales
from meta_lr.records import rows
from meta_lr.records.reader import Record
from meta_lr.records.rows import Row
from meta_lr.report.files import write_file
from meta_lr.report.search_figures import range_picture
from meta_lr.training.step import ask, gradient, update


def range_test(
    model: nn.Module,
    optimizer: Optimizer,
    loader: Iterable[Any],
    loss_fn: Callable[[nn.Module, Any], Tensor],
    *,
    low: float = 1e-5,
    high: float | None = None,
    steps: int = 300,
    smoothing: float = SMOOTHING,
    safety: float = SAFETY,
    clip: float | None = None,
    figure: str | os.PathLike[str] | None = None,
) -> RangeTest:
    """Train a copy while the learning rate rises, and suggest a range [k0, k1] of learning rates.

    The test does not change the model, the optimizer, or torch's random state on the CPU and on
    the model's device.

    Args:
        model: The model, on its device; the copy trains in the same mode (train or eval).
        optimizer: The optimizer of the model's parameters; its groups keep the ratios of their
            learning rates.
        loader: An iterable of batches, such as a DataLoader; it is restarted when it ends.
        loss_fn: Takes a model and a batch; returns the mean loss ().
        low: The first learning rate.
        high: The last learning rate; the sweep stops earlier if the loss diverges. None is 10, or
            more for Adagrad and Adadelta.
        steps: Length of the sweep, in optimizer steps.
        smoothing: Smoothing factor of the losses, in [0, 1).
        safety: The learning rate where the loss begins to rise is divided by this factor to get
            k1; at least 1.
        clip: Largest norm of the gradient; None does not clip.
        figure: Path of the figure to draw, .svg or .png; None draws nothing.

    Returns:
        RangeTest: `k0`, `k1`, and the measured sweep. A cosine from `k1` is a good first schedule.

    Raises:
        ValueError: An argument is out of range, the loader is empty, or the sweep shows no range;
            the message says what to widen.

    >>> model = nn.Linear(4, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> batches = [torch.randn(32, 4, generator=torch.Generator().manual_seed(0))]
    >>> def loss_fn(model, x):
    ...     return (model(x) - x.sum(1, keepdim=True)).square().mean()
    >>> found = range_test(model, optimizer, batches, loss_fn)
    >>> 1e-5 < found.k0 < found.k1 < 1
    True
    """
    refuse(steps=steps, safety=safety)
    _refuse_suffix(figure)
    sweep = Sweep(low, highest_of(optimizer) if high is None else high, smoothing)
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices):
        twin = copy.deepcopy((model, optimizer))
        swept = list(_rows(*twin, _endless(loader), loss_fn, sweep, steps, clip))
    found = suggest([Record(swept)], smoothing=smoothing, safety=safety)
    if figure is not None:
        _save(found, Path(figure))
    return found


def _rows(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterator[Any],
    loss_fn: Callable[[nn.Module, Any], Tensor],
    sweep: Sweep,
    steps: int,
    clip: float | None,
) -> Iterator[Row]:
    """Yield the rows that a record of the sweep would hold."""
    scales, state, status = group_scales(optimizer), sweep.init(), "finished"
    yield rows.header({"total_steps": steps})
    for step in range(steps):
        loss = gradient(optimizer, [loss_fn(model, next(batches))], clip)
        try:
            lr, _, state = ask(
                sweep,
                state,
                optimizer,
                step,
                scales=scales,
                loss=loss,
                params=(),
                total_steps=steps,
                steps_per_epoch=0,
                sandbox=None,
            )
        except DivergedError:
            status, steps = "diverged", step
            break
        yield rows.step(step, float(loss), lr, {"cost": float(step + 1)})
        update(optimizer)
    yield rows.end(status, "steps", steps, {"cost": float(steps)})


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError("the loader gives no batches; pass one that can be iterated again")


def _save(found: RangeTest, path: Path) -> None:
    picture = range_picture(found)
    write_file(path, picture.svg.encode() if path.suffix == ".svg" else picture.png)


def _refuse_suffix(figure: str | os.PathLike[str] | None) -> None:
    if figure is not None and Path(figure).suffix not in (".svg", ".png"):
        raise ValueError(f"figure={str(figure)!r}; a path that ends in .svg or .png is needed")
