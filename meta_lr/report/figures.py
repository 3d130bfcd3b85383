"""The figures: learning-rate, loss and validation curves, test values, paired differences.

Only this file uses the plotting library. A method has the same colour in the whole report, and its
name is next to its line.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from meta_lr.extras import explained
from meta_lr.report.analysis import Analysis, Method
from meta_lr.report.comparison import SHOW_EACH_RUN, Comparison
from meta_lr.report.curves import Axis, Band, Curve, Quantity, band, run_curve
from meta_lr.report.looks import MUTED, PAPER, STYLE, Look
from meta_lr.report.outcomes import Metric
from meta_lr.report.targets import Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure

Point: TypeAlias = tuple[float, float]
X_LABELS: Mapping[Axis, str] = {"step": "optimizer step", "cost": "cost (1 = one plain step)"}
_CURVES: Sequence[tuple[Quantity, Axis]] = (
    *(("rate", "step"), ("score", "step"), ("score", "cost"), ("loss", "step")),
    *(("rate", "cost"), ("loss", "cost")),
)


@dataclass(frozen=True)
class Picture:
    """One figure, as text and as bytes; `name` is its file name without a suffix."""

    name: str
    caption: str
    svg: str
    png: bytes


def problem_pictures(analysis: Analysis, look: Mapping[str, Look]) -> Iterator[Picture]:
    """Draw the figures of one problem, the most important first.

    The order is: the test values; the learning rate, the validation and the training loss against
    steps (and, if runs searched, also against cost); the paired differences.
    """
    start, metric = analysis.problem.slug, analysis.metric
    tests = [value for method in analysis.methods for value in method.values("test_last")]
    if len(tests) > 1:
        yield drawn(
            f"{start}-test",
            f"Test {metric.name} at the last weights: one dot per run, a bar at the mean. A cross "
            "at the edge is a diverged run; no mean is drawn beside one.",
            lambda: _test_figure(analysis, look),
        )
    for quantity, axis in _CURVES:
        curves = {
            m.label: [run_curve(run, quantity, axis, metric) for run in m.group.runs]
            for m in analysis.methods
        }
        told = axis == "step" or analysis.searched
        if told and any(curve.x.size for runs in curves.values() for curve in runs):
            yield drawn(
                f"{start}-{quantity}-{axis}",
                _curve_caption(quantity, axis, analysis),
                lambda q=quantity, a=axis, c=curves: _curve_figure(c, q, a, metric, look),
            )
    drawable = [c for c in analysis.comparisons if math.isfinite(c.mean)]
    if drawable:
        yield drawn(
            f"{start}-differences",
            f"Paired difference in test {metric.name}: a faint dot per seed, and from 3 seeds on "
            "the mean and its 95 % interval.",
            lambda: _difference_figure(drawable, metric, look),
        )


def profile_picture(profile: Profile, look: Mapping[str, Look]) -> Picture:
    """Draw the performance profile."""
    caption = "Share of (problem, seed) pairs solved within a multiple of the cheapest method's "
    return drawn("profile", caption + "cost to target.", lambda: _profile_figure(profile, look))


def drawn(name: str, caption: str, draw: Callable[[], Figure]) -> Picture:
    """Return the figure of `draw` as a picture, in the report's style."""
    with explained():
        import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = draw()
        svg, png = io.StringIO(), io.BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(svg, format="svg", metadata=nothing)
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return Picture(name, caption, svg.getvalue(), png.getvalue())


def new_axes(
    *, height: float = 2.9, left: float = 0.135, right: float = 0.8
) -> tuple[Figure, Axes]:
    """Return a new figure and its axes; height is in inches, the rest in shares of the width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.7, height))
    bottom, top = 0.46 / height, 1 - 0.3 / height
    return figure, figure.add_axes((left, bottom, right - left, top - bottom))


def _curve_caption(quantity: Quantity, axis: Axis, analysis: Analysis) -> str:
    what = {
        "rate": "Learning rate (log scale)",
        "loss": "Training loss, trailing mean over 2 % of the run",
        "score": f"Validation {analysis.metric.name}",
    }[quantity]
    against = {"step": "steps", "cost": "cost"}[axis]
    same = "" if analysis.searched else " (the cost too: nothing was searched)"
    several = any(len(method.outcomes) > 1 for method in analysis.methods)
    lines = " Thin: each run; thick: their mean." if analysis.few and several else ""
    return f"{what}, against {against}{same}.{lines}"


def _curve_figure(
    curves: Mapping[str, Sequence[Curve]],
    quantity: Quantity,
    axis: Axis,
    metric: Metric,
    look: Mapping[str, Look],
) -> Figure:
    figure, axes = new_axes(right=room(list(curves)))
    titles = {"rate": "learning rate", "loss": "training loss", "score": f"val {metric.name}"}
    axes.set_title(titles[quantity])
    axes.set_xlabel(X_LABELS[axis])
    _scale(axes, quantity, [c.y for runs in curves.values() for c in runs if c.y.size])
    draw_groups(axes, curves, look)
    return figure


def draw_groups(
    axes: Axes, curves: Mapping[str, Sequence[Curve]], look: Mapping[str, Look]
) -> None:
    """Draw the runs of each label on common axes, and write the names next to the lines."""
    ends = {label: draw_runs(axes, runs, look[label]) for label, runs in curves.items()}
    axes.margins(x=0.01)
    axes.set_xlim(left=0)
    thousands(axes)
    name_lines(axes, {label: end for label, end in ends.items() if end is not None}, look)


def draw_runs(axes: Axes, runs: Sequence[Curve], look: Look) -> Point | None:
    """Draw the runs (thin lines, if few), their mean and spread; return the end of the mean."""
    few = len(runs) < SHOW_EACH_RUN
    for curve in runs:
        if few or not curve.finished:
            axes.plot(curve.x, curve.y, color=look.colour, linewidth=0.7, alpha=0.45)
        if curve.diverged:
            axes.plot(curve.x[-1:], curve.y[-1:], "x", color=look.colour, markersize=6, zorder=4)
    mean = band(runs)
    if mean is None:
        return None
    axes.plot(mean.x, mean.mean, look.dashes, color=look.colour, linewidth=1.8, zorder=3)
    if not few:
        _shade(axes, mean, look)
    return float(mean.x[-1]), float(mean.mean[-1])


def _shade(axes: Axes, mean: Band, look: Look) -> None:
    low, high = mean.mean - mean.spread, mean.mean + mean.spread
    if axes.get_yscale() == "log":
        low = np.maximum(low, mean.mean / 10)
    axes.fill_between(mean.x, low, high, color=look.colour, alpha=0.16, linewidth=0)


def _scale(axes: Axes, quantity: Quantity, values: Sequence[np.ndarray]) -> None:
    """Choose the y scale: log for learning rates and wide losses, per cent for accuracies."""
    y = np.concatenate(values)
    if quantity == "score" and 0 < y.max() <= 1:
        axes.set_ylim(*_accuracy_limits(values))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    elif quantity == "rate" or y.min() > 0:
        log_axis(axes, y)


def _accuracy_limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return limits without the first rise, so that the final values can be distinguished."""
    late = np.concatenate([y[y.size // 3 :] for y in values])
    low, high = float(np.quantile(late, 0.02)), float(late.max())
    room = max(0.02, 0.08 * (high - low))
    return max(0.0, low - room), min(1.0 + 0.25 * room, high + room)


def log_axis(axes: Axes, values: np.ndarray, *, decades: float = 3) -> None:
    """Make the y axis logarithmic, if a value is positive; show at most `decades` decades."""
    positive = values[values > 0]
    if not positive.size:
        return
    high = positive.max()
    low = max(positive.min(), high * 10**-decades)
    axes.set_yscale("log")
    axes.set_ylim(low / 1.25, high * 1.25)
    log_ticks(axes.yaxis, low, high)


def log_ticks(axis: XAxis | YAxis, low: float, high: float) -> None:
    """Write plain numbers on a logarithmic axis; matplotlib's own labels need formulas (off)."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def thousands(axes: Axes) -> None:
    """Write whole numbers on the x axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def room(labels: Sequence[str]) -> float:
    """Return the right end of the axes that leaves enough space for the names."""
    longest = max(len(line) for label in labels for line in _wrapped(label).split("\n"))
    return 0.935 - 0.0172 * longest


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(label, 18, break_long_words=True)) or label


def name_lines(axes: Axes, ends: Mapping[str, Point], look: Mapping[str, Look]) -> None:
    """Write each name next to the axes, connected to the end of its line, without overlaps."""
    to_axes = axes.transData + axes.transAxes.inverted()
    tips = {name: np.clip(to_axes.transform(end), 0, 1) for name, end in ends.items()}
    names = sorted(tips, key=lambda name: float(tips[name][1]))
    tall = [0.068 * (1 + _wrapped(name).count("\n")) for name in names]
    places = _apart([float(tips[name][1]) for name in names], tall)
    for name, place in zip(names, places, strict=True):
        x, y = tips[name]
        tie = {"color": look[name].colour, "linewidth": 1.0, "clip_on": False}
        axes.plot((max(x, 1), 1.035), (y, place), transform=axes.transAxes, **tie)
        axes.plot((x, 1), (y, y), ":", transform=axes.transAxes, **tie)
        axes.text(1.045, place, _wrapped(name), transform=axes.transAxes, va="center")


def _apart(wanted: Sequence[float], tall: Sequence[float]) -> list[float]:
    """Return positions in [0, 1], in the given order, at which labels of these heights fit."""
    places = [min(max(place, 0), 1) for place in wanted]
    for _ in range(200):
        for i in range(len(places) - 1):
            overlap = (tall[i] + tall[i + 1]) / 2 - (places[i + 1] - places[i])
            if overlap > 1e-6:
                places[i] -= overlap / 2
                places[i + 1] += overlap / 2
        shift = max(0.0, -places[0]) if places[0] < 0 else min(0.0, 1 - places[-1])
        places[0 if shift > 0 else -1] += shift
    return places


def _test_figure(analysis: Analysis, look: Mapping[str, Look]) -> Figure:
    methods = analysis.methods
    figure, axes = _row_axes([method.label for method in methods])
    axes.set_title(f"test {analysis.metric.name}, last weights")
    for row, method in enumerate(methods):
        _draw_dots(axes, row, method, look[method.label].colour)
    _metric_axis(axes, analysis.metric, sign=False)
    return figure


def _draw_dots(axes: Axes, row: int, method: Method, colour: str) -> None:
    values = [o.test_last for o in method.outcomes if o.status == "finished"]
    known = [value for value in values if math.isfinite(value)]
    heights = row + 0.22 * np.linspace(-1, 1, len(known)) if len(known) > 1 else [row]
    dots = {"color": colour, "markeredgecolor": PAPER, "markeredgewidth": 0.6, "markersize": 7}
    axes.plot(known, heights[: len(known)], "o", **dots)
    diverged = method.count("diverged")
    if known and not diverged:
        mean = sum(known) / len(known)
        axes.plot((mean, mean), (row - 0.34, row + 0.34), color=colour, linewidth=2)
    edge = axes.get_yaxis_transform()
    axes.plot([0.015] * diverged, [row] * diverged, "x", color=colour, transform=edge)


def _difference_figure(
    comparisons: Sequence[Comparison], metric: Metric, look: Mapping[str, Look]
) -> Figure:
    methods = list(dict.fromkeys(comparison.method for comparison in comparisons))
    one = len(methods) == 1
    pairs = [c.reference if one else f"{c.method} - {c.reference}" for c in comparisons]
    figure, axes = _row_axes(pairs)
    what = f"test {metric.name}"
    axes.set_title(f"{what}: {methods[0]} minus each" if one else f"difference in {what}")
    axes.axvline(0, color=MUTED, linewidth=1)
    for row, comparison in enumerate(comparisons):
        colour = look[comparison.reference if one else comparison.method].colour
        each = list(comparison.differences.values())
        dots = {"color": colour, "alpha": 0.45, "markersize": 5, "markeredgewidth": 0}
        axes.plot(each, [row + 0.22] * len(each), "o", **dots)
        if math.isfinite(comparison.low):
            axes.plot((comparison.low, comparison.high), (row, row), color=colour, linewidth=2.2)
            axes.plot(comparison.mean, row, "o", color=colour, markersize=8, markeredgecolor=PAPER)
    _metric_axis(axes, metric, sign=True)
    return figure


def _row_axes(names: Sequence[str]) -> tuple[Figure, Axes]:
    """Return a figure and axes with one row per name, from top to bottom."""
    wrapped = ["\n".join(textwrap.wrap(name, 24)) for name in names]
    longest = max(len(line) for name in wrapped for line in name.split("\n"))
    figure, axes = new_axes(
        height=0.95 + 0.42 * len(names), left=0.03 + 0.0172 * longest, right=0.95
    )
    axes.set_yticks(range(len(names)), wrapped)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return figure, axes


def _metric_axis(axes: Axes, metric: Metric, *, sign: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    plus = "+" if sign else ""
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if metric.name == "accuracy":
        suffix = "" if sign else " %"
        axes.xaxis.set_major_formatter(lambda value, _: f"{_tidy(100 * value, plus)}{suffix}")
        axes.set_xlabel("percentage points" if sign else "one dot per run")
    else:
        axes.xaxis.set_major_formatter(lambda value, _: _tidy(value, plus))


def _tidy(value: float, plus: str) -> str:
    """Write a tick's value without rounding errors, and zero without a sign."""
    rounded = round(value, 9)
    return f"{rounded:{plus}g}" if rounded else "0"


def _profile_figure(profile: Profile, look: Mapping[str, Look]) -> Figure:
    figure, axes = new_axes(right=room(list(profile.shares)))
    axes.set_title("share of pairs solved")
    axes.set_xlabel("multiple of the cheapest method's cost to target")
    axes.set_ylim(-0.02, 1.03)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    for label, share in profile.shares.items():
        style = {"color": look[label].colour, "linestyle": look[label].dashes, "linewidth": 1.8}
        axes.plot(profile.ratios, share, drawstyle="steps-post", **style)
    axes.set_xlim(1, float(profile.ratios[-1]))
    last = float(profile.ratios[-1])
    name_lines(axes, {label: (last, float(s[-1])) for label, s in profile.shares.items()}, look)
    return figure
