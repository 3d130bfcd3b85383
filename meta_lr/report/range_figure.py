"""The figure of a range test: the loss against the learning rate, and the suggested range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from meta_lr.report.figures import Picture, drawn, log_ticks, new_axes
from meta_lr.report.looks import MUTED, PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from meta_lr.lrbench.range_test import RangeTest


def range_picture(found: RangeTest) -> Picture:
    """Draw a range test."""
    caption = "Training loss while the rate rises; thick: smoothed; shaded: the suggested range."
    return drawn("range", caption, lambda: _figure(found))


def _figure(found: RangeTest) -> Figure:
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
