"""The figures of a range test and of a verification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from meta_lr.report.figures import Picture, drawn, log_ticks, new_axes, thousands
from meta_lr.report.looks import MUTED, PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from meta_lr.lrbench.range_test import RangeTest


Evaluation = tuple[int, float, "float | None", "float | None"]  # step, cost, accuracy, loss


def range_picture(found: RangeTest) -> Picture:
    """Draw a range test: the loss against the learning rate, and the suggested range."""
    caption = "Training loss while the rate rises; thick: smoothed; shaded: the suggested range."
    return drawn("range", caption, lambda: _range_figure(found))


def _range_figure(found: RangeTest) -> Figure:
    line, band = PALETTE[1], PALETTE[2]
    figure, axes = new_axes(right=0.95)
    axes.set_title("range test: training loss")
    axes.set_xlabel("learning rate")
    axes.set_xscale("log")
    log_ticks(axes.xaxis, float(found.rates[0]), float(found.rates[-1]))
    for losses in found.losses:
        axes.plot(found.rates, losses, color=line, linewidth=0.7, alpha=0.45)
    axes.plot(found.rates, found.smoothed, color=line, linewidth=1.8, zorder=3)
    axes.axvspan(found.k0, found.k1, color=band, alpha=0.16, linewidth=0)
    axes.set_xlim(found.rates[0], found.rates[-1])
    axes.set_ylim(*_limits(found))
    above = axes.get_xaxis_transform()
    for name, rate, side in (("k0", found.k0, "right"), ("k1", found.k1, "left")):
        axes.axvline(rate, color=band, linewidth=1)
        text = f" {name} {rate:.2g} "
        axes.text(rate, 0.97, text, transform=above, ha=side, va="top", color=MUTED)
    return figure


def _limits(found: RangeTest) -> tuple[float, float]:
    """Return limits without the divergence, but with its beginning."""
    low, high = float(found.smoothed.min()), float(found.smoothed[: _start(found)].max())
    margin = 0.1 * (high - low) or 0.1
    return low - margin, high + 3 * margin


def _start(found: RangeTest) -> int:
    return int(np.searchsorted(found.rates, found.k0)) + 1


def target_picture(curves: Sequence[Sequence[Evaluation]], target: float) -> Picture:
    """Draw the curves of runs and their target: accuracies if there are any, else losses."""
    caption = "Each run's evaluations on val until it was decided; dashed: the target."
    return drawn("target", caption, lambda: _target_figure(curves, target))


def _target_figure(curves: Sequence[Sequence[Evaluation]], target: float) -> Figure:
    accurate = any(accuracy is not None for curve in curves for _, _, accuracy, _ in curve)
    figure, axes = new_axes(right=0.95)
    axes.set_title("val accuracy" if accurate else "val loss")
    axes.set_xlabel("optimizer step")
    for curve in curves:
        values = [accuracy if accurate else loss for _, _, accuracy, loss in curve]
        known = [float("nan") if value is None else value for value in values]
        axes.plot([step for step, *_ in curve], known, color=PALETTE[1], linewidth=1.4, marker=".")
    axes.axhline(target, color=MUTED, linewidth=1, linestyle="--")
    axes.set_xlim(left=0)
    thousands(axes)
    return figure
