"""The figure of a verification: each run's curve on `val`, and the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meta_lr.report.figures import Picture, drawn, new_axes, thousands
from meta_lr.report.looks import MUTED, PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Evaluation = tuple[int, float, "float | None", "float | None"]  # step, cost, accuracy, loss


def target_picture(curves: Sequence[Sequence[Evaluation]], target: float) -> Picture:
    """Draw the curves of runs and their target: accuracies if there are any, else losses."""
    caption = "Each run's evaluations on val until it was decided; dashed: the target."
    return drawn("target", caption, lambda: _figure(curves, target))


def _figure(curves: Sequence[Sequence[Evaluation]], target: float) -> Figure:
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
