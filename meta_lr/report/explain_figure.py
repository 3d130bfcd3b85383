"""The figures of `meta-lr explain`: learning rates above, and the losses that cause them below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from meta_lr.report.figures import (
    X_LABELS,
    Picture,
    drawn,
    log_axis,
    name_lines,
    new_axes,
    room,
    thousands,
)
from meta_lr.report.looks import INK, Look, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from meta_lr.explain.replay import Replay

Curves = Mapping[str, NDArray[np.float64]]  # (steps,) each, by name

DECADES = 5  # plotted range of the learning rate over the first one
MARKS = {"retreats": "v", "clamped": "|", "alarms": "x"}  # of the events


def explanation_picture(losses: Curves, rates: Curves, distilled: NDArray[np.float64]) -> Picture:
    """Draw the learning rates of a checkpoint (above) for given losses (below).

    Args:
        losses: Name -> loss curve (steps,).
        rates: The same names -> learning rates (steps,) for these losses.
        distilled: The distilled policy's learning rates (steps,), drawn dashed over the others.
    """
    caption = "The rate for each curve of losses, the distilled policy dashed; below, those losses."
    look = {**looks(losses), "distilled": Look(INK, "--")}
    groups = {"learning rate": {**rates, "distilled": distilled}, "loss": losses}
    return drawn("explain", caption, lambda: _stacked(groups, look, decades=3)[0])


def replay_picture(replays: Mapping[str, Replay]) -> Picture:
    """Draw the learning rates and the events of a self-tuning schedule in synthetic runs."""
    caption = (
        "The learning rate over the first one, for each curve of losses; below, those losses. "
        "Triangles: retreats; bars: updates that were limited; crosses: alarms."
    )
    return drawn("explain", caption, lambda: _replay_figure(replays))


def _replay_figure(replays: Mapping[str, Replay]) -> Figure:
    look = looks(replays)
    rates = {name: found.lr for name, found in replays.items()}
    losses = {name: found.losses for name, found in replays.items()}
    groups = {"learning rate, over the first one": rates, "loss": losses}
    figure, above = _stacked(groups, look, decades=DECADES)
    for name, found in replays.items():
        style = {"color": look[name].colour, "markersize": 6, "zorder": 4}
        for event, mark in MARKS.items():
            steps = found.events[event]
            above.plot(steps, found.lr[steps], mark, **style)
    return figure


def _stacked(
    groups: Mapping[str, Curves], look: Mapping[str, Look], *, decades: float
) -> tuple[Figure, Axes]:
    """Draw two groups of curves, one above the other; return the figure and the upper axes."""
    figure, above, below = _two_axes(room(list(look)))
    for axes, width, (title, curves) in zip(
        (above, below), (1.2, 0.6), groups.items(), strict=True
    ):
        axes.set_title(title)
        length = max(map(len, curves.values()))
        for name, y in curves.items():
            x, thin = np.arange(len(y)), max(1, length // 2000)
            axes.plot(
                x[::thin], y[::thin], look[name].dashes, color=look[name].colour, linewidth=width
            )
        log_axis(axes, np.concatenate([*curves.values()]), decades=decades)
        axes.set_xlim(0, length)
        thousands(axes)
        ends = {name: (float(len(y)), float(y[-1])) for name, y in curves.items()}
        name_lines(axes, ends, look)
    below.set_xlabel(X_LABELS["step"])
    return figure, above


def _two_axes(right: float) -> tuple[Figure, Axes, Axes]:
    """Return a new figure, its upper axes and its lower axes."""
    height = 5.2
    figure, below = new_axes(height=height, right=right)
    left, bottom, width, tall = below.get_position().bounds
    tall = (tall - 0.55 / height) / 2
    below.set_position((left, bottom, width, tall))
    return figure, figure.add_axes((left, 1 - 0.3 / height - tall, width, tall)), below
