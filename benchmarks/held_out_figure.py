"""The figure of held-out problems: the schedules, and each way's difference from a cosine.

It has the style of the report. The labels of the lower panel are the legend for the upper panels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

from benchmarks.held_out_table import ORACLE, TUNED, Result
from meta_lr.report.looks import INK, MUTED, PAPER, STYLE, Look, looks

WIDTH, TALL, ROW = 7.2, 2.0, 0.3  # inches: the figure, the upper panels, each row below
LEFT, RIGHT, TOP, GAP, BOTTOM = 0.6, 0.12, 0.32, 0.85, 0.5  # inches around and between
POINTS = 200  # on each line, at least
LOWEST = 1e-3  # share of the largest learning rate: a cosine ends at zero
Schedules = Mapping[str, Tensor]  # by name: learning rates (steps, meta-training seeds)


def write(path: Path, along: Sequence[Schedules], results: Sequence[Result]) -> None:
    """Write the figure as SVG.

    Args:
        path: Path of the figure.
        along: The learning rates along a problem, for each upper panel.
        results: One row for each, from the top down.
    """
    look = {
        **looks(one.name for one in results if one.name not in (TUNED, ORACLE)),
        **{TUNED: Look(INK, "-"), ORACLE: Look(INK, "--")},
    }
    with matplotlib.rc_context(STYLE):
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        _figure(along, results, look).savefig(path, format="svg", metadata=nothing)


def _figure(
    along: Sequence[Schedules], results: Sequence[Result], look: Mapping[str, Look]
) -> Figure:
    rows = ROW * len(results)
    height = TOP + TALL + GAP + rows + BOTTOM
    figure, inner = Figure(figsize=(WIDTH, height)), WIDTH - LEFT - RIGHT
    high = max(float(rates.max()) for one in along for rates in one.values())
    for place, one in enumerate(along):
        wide = (inner - 0.2 * (len(along) - 1)) / len(along)
        corner = (LEFT + place * (wide + 0.2), height - TOP - TALL)
        axes = figure.add_axes(_box(corner, (wide, TALL), height))
        _rates(axes, one, look, high, first=place == 0)
    names = 0.2 + 0.078 * max(len(one.name) for one in results)
    axes = figure.add_axes(_box((names, BOTTOM), (WIDTH - names - RIGHT, rows), height))
    _differences(axes, results, look)
    return figure


def _box(
    corner: tuple[float, float], size: tuple[float, float], height: float
) -> tuple[float, float, float, float]:
    """Return a position in inches as fractions of the figure."""
    return corner[0] / WIDTH, corner[1] / height, size[0] / WIDTH, size[1] / height


def _rates(
    axes: Axes, one: Schedules, look: Mapping[str, Look], high: float, *, first: bool
) -> None:
    """Draw one line per way: the geometric mean over its meta-training seeds."""
    steps = max(len(tensor) for tensor in one.values())
    at = np.arange(0, steps, max(1, steps // POINTS))
    for name, tensor in one.items():
        mean = np.exp(np.log(np.maximum(tensor.numpy(), 1e-9)).mean(1))
        axes.plot(at, mean[at], look[name].dashes, color=look[name].colour, linewidth=1.1)
    axes.set_title(f"rate, run of {steps:,} steps" if first else f"run of {steps:,} steps")
    axes.set_xlabel("optimizer step")
    axes.set_xlim(0, steps)
    axes.set_yscale("log")
    axes.set_ylim(high * LOWEST / 1.25, high * 1.25)
    axes.yaxis.set_major_locator(LogLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if first else "")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _differences(axes: Axes, results: Sequence[Result], look: Mapping[str, Look]) -> None:
    """Draw each way's mean difference, its interval, and a faint dot per meta-training seed."""
    axes.axvline(0, color=MUTED, linewidth=1)
    for row, one in enumerate(results):
        colour, mean = look[one.name].colour, one.apart.mean().item()
        each = [value - one.tuned.mean().item() for value in one.seeds]
        if len(each) > 1:
            dots = {"color": colour, "alpha": 0.45, "markersize": 4, "markeredgewidth": 0}
            axes.plot(each, [row + 0.28] * len(each), "o", **dots)
        axes.plot(one.interval, (row, row), look[one.name].dashes, color=colour, linewidth=2.2)
        axes.plot(mean, row, "o", color=colour, markersize=7, markeredgecolor=PAPER)
    axes.set_title("final validation loss minus that of the cosine at one tuned peak")
    axes.set_xlabel("nats; below 0 is better")
    axes.set_yticks(range(len(results)), [one.name for one in results])
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}" if round(value, 9) else "0")
