"""The performance profile: the share of problems on which a method is close to the best of all.

After Dolan and More (2002), with differences of the log loss in place of ratios of time. The curve
of a method at tau is the share of problems on which it ends within tau nats of the best method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.scorecard.scores import GLOBAL, ORACLE, SAME_SEED, Scores
from benchmarks.scorecard.tuned import AVERAGED
from meta_lr.report.looks import INK, PALETTE, STYLE, Look

FARTHEST = 0.5  # nats: the right end of the axis
Curve = tuple[np.ndarray, np.ndarray]


def profile(logs: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    """Return each method's distances to the best of all, sorted, nats (problems,)."""
    best = np.min([*logs.values()], axis=0)
    return {name: np.sort(np.asarray(of) - best) for name, of in logs.items()}


def write(path: Path, scores: Scores, schedules: Sequence[str]) -> None:
    """Write the figure, as PNG or SVG by the ending of the path.

    The oracle that is chosen on the scoring seeds is left out: no real method can be this oracle.

    Args:
        path: Path of the figure.
        scores: Scores of all methods.
        schedules: Names of the main schedules of the figure; their curves are thicker.
    """
    found = profile({name: of for name, of in scores.logs.items() if name != SAME_SEED})
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 4.8))
        axes = figure.add_axes((0.075, 0.12, 0.58, 0.79))
        _draw(axes, found, schedules)
        figure.savefig(path, dpi=150)


def _draw(axes: Axes, found: Mapping[str, np.ndarray], schedules: Sequence[str]) -> None:
    """Draw a step curve per method; the legend lists them from the highest curve to the lowest."""
    look = _looks(found, schedules)
    for name in sorted(found, key=lambda name: np.minimum(found[name], FARTHEST).mean()):
        thick = name in (*schedules, ORACLE)
        axes.step(
            *_steps(found[name]),
            look[name].dashes,
            where="post",
            color=look[name].colour,
            linewidth=2.6 if thick else 1.3,
            zorder=3 if thick else 2,
            label=name,
        )
    axes.set_title("share of problems within a distance of the best of all methods")
    axes.set_xlabel("distance, nats of the final validation loss")
    axes.set_xlim(0, FARTHEST)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.02, 1.02), frameon=False, labelcolor=INK, handlelength=3
    )


def _steps(distances: np.ndarray) -> Curve:
    """Return a curve that rises by one problem at each distance, up to the right end."""
    share = np.arange(1, len(distances) + 1) / len(distances)
    at = np.concatenate([[0.0], distances, [FARTHEST]])
    inside = at <= FARTHEST
    reached = np.concatenate([[0.0], share, [share[distances <= FARTHEST].max(initial=0.0)]])
    return at[inside], reached[inside]


def _looks(names: Iterable[str], schedules: Sequence[str]) -> dict[str, Look]:
    """Return each method's look: dotted with an average; black for tuned schedules."""
    found = {ORACLE: Look(INK, "-"), GLOBAL: Look(INK, "--")}
    others = [name for name in names if name not in found and not name.endswith(AVERAGED)]
    n, dashes = len(PALETTE), ("-", "--", "-.")
    for i, name in enumerate(dict.fromkeys((*schedules, *others))):
        found[name] = Look(PALETTE[i % n], dashes[i // n % len(dashes)])
    for name in names:
        if name.endswith(AVERAGED):
            found[name] = Look(found[name.removesuffix(AVERAGED)].colour, ":")
    return found
