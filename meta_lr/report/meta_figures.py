"""The figures of episodic meta-trainings: held-out and running scores, against updates and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from meta_lr.report.curves import Curve, smooth
from meta_lr.report.figures import (
    Picture,
    draw_groups,
    drawn,
    new_axes,
    room,
)
from meta_lr.report.looks import MUTED, Look
from meta_lr.report.meta_runs import MetaRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = {"held_out": "held-out score", "running": "running score"}
_CAPTIONS = {
    "held_out": "Score on the held-out problems",
    "running": "Score of the windows trained on, trailing mean over 2 % of the run",
}
_AXES = {"update": "update of phi", "cost": "cost (1 = one plain step)"}


def meta_pictures(
    groups: Mapping[str, Sequence[MetaRun]], slug: str, look: Mapping[str, Look]
) -> Iterator[Picture]:
    """Draw meta-trainings with comparable scores, by label; `slug` is the prefix of file names."""
    for what, caption in _CAPTIONS.items():
        for axis in _AXES:
            curves = {
                label: [_curve(run, what, axis) for run in runs] for label, runs in groups.items()
            }
            if any(curve.x.size for runs in curves.values() for curve in runs):
                yield drawn(
                    f"{slug}-{what.replace('_', '-')}-{axis}",
                    f"{caption}, in nats from the cosine's, against {axis}; below 0 is better "
                    "than the cosine. Thin: each run; thick: their mean.",
                    lambda c=curves, w=what, a=axis: _figure(c, w, a, look),
                )


def _curve(run: MetaRun, what: str, axis: str) -> Curve:
    scores = run.looks if what == "held_out" else run.running
    finite = np.isfinite(scores.score)  # an update whose episodes all diverged has no score
    x, y = getattr(scores, axis)[finite], scores.score[finite]
    return Curve(x, y if what == "held_out" else smooth(y), finished=run.finished)


def _figure(
    curves: Mapping[str, Sequence[Curve]], what: str, axis: str, look: Mapping[str, Look]
) -> Figure:
    figure, axes = new_axes(right=room(list(curves)))
    axes.set_title(_TITLES[what])
    axes.set_xlabel(_AXES[axis])
    axes.set_ylim(*_limits([c.y for runs in curves.values() for c in runs if c.y.size]))
    axes.axhline(0, color=MUTED, linewidth=1)
    draw_groups(axes, curves, look)
    return figure


def _limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return limits without the first fall, to distinguish the final values; they include 0."""
    late = np.concatenate([y[y.size // 3 :] for y in values])
    low, high = min(0.0, float(late.min())), max(0.0, float(np.quantile(late, 0.98)))
    margin = 0.08 * (high - low) or 0.01
    return low - margin, high + margin
