"""The tables of speed: the time to a target, and the performance profile over problems."""

from __future__ import annotations

import math

from meta_lr.report.analysis import Analysis
from meta_lr.report.tables import NONE, Table, amount, score, unit
from meta_lr.report.targets import Profile, Times


def target_table(analysis: Analysis) -> Table:
    """Return the table of the times to the target."""
    rows = tuple(
        (
            method.label,
            f"{_reached(method.steps_to_target)} of {len(method.steps_to_target)}",
            _median(method.steps_to_target),
            *([_median(method.cost_to_target)] if analysis.searched else []),
        )
        for method in analysis.methods
    )
    aim = score(analysis.target, analysis.metric)
    origin = f"the mean last value of {analysis.baseline}" if analysis.baseline else "as asked for"
    note = f"Validation {unit(analysis.metric)} {aim} ({origin}), seen at evaluations only; "
    note += "medians, a run that never reaches it being the slowest."
    columns = ("method", "reached", "steps", *(["cost"] if analysis.searched else []))
    return Table("Time to target", note, columns, rows)


def profile_table(profile: Profile) -> Table:
    """Return the values of a performance profile (cost to target) at a few ratios."""
    at = (1.0, 1.5, 2.0, 4.0)
    rows = tuple(
        (label, *(f"{100 * profile.share_within(label, ratio):.0f}" for ratio in at))
        for label in profile.shares
    )
    note = f"Per cent of {profile.num_pairs} (problem, seed) pairs whose target was reached at no "
    note += "more than this multiple of the cheapest method's cost."
    return Table("Performance profile", note, ("method", *(f"{r:g} x" for r in at)), rows)


def _reached(times: Times) -> int:
    return sum(math.isfinite(time) for time in times.values())


def _median(times: Times) -> str:
    """Write the median; the median of a time and "never" is "never"."""
    ordered = sorted(times.values())
    if not ordered:
        return NONE
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return amount(sum(middle) / len(middle))
