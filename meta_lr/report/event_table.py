"""The table of the events that the controllers counted, such as retreats, for each method."""

from __future__ import annotations

from meta_lr.records.rows import COUNTED
from meta_lr.report.analysis import Analysis
from meta_lr.report.methods import Method
from meta_lr.report.tables import NONE, Table, mean_amount

_MEANINGS = {  # of the counts of this package's controllers
    "num_retreats": "the smoothed loss rose, so the learning rate was lowered",
    "num_clamped": "steps at which the update was limited to its largest size",
    "num_alarms": "the loss was far above the first one, so the learning rate was lowered",
    "num_fallbacks": "steps that the fallback steered",
}


def event_table(analysis: Analysis) -> Table | None:
    """Return the mean counts per run of each method; None if no controller counted anything."""
    methods = [method for method in analysis.methods if _names(method)]
    names = list(dict.fromkeys(name for method in methods for name in _names(method)))
    if not names:
        return None
    rows = tuple((m.label, *(_mean(m, name) for name in names)) for m in methods)
    return Table("Events", _note(names), ("method", *map(_short, names)), rows)


def _names(method: Method) -> list[str]:
    return list(dict.fromkeys(name for run in method.group.runs for name in run.counts))


def _short(name: str) -> str:
    return name.removeprefix(COUNTED).replace("_", " ")


def _mean(method: Method, name: str) -> str:
    values = [run.counts[name] for run in method.group.runs if name in run.counts]
    return mean_amount(values) if values else NONE


def _note(names: list[str]) -> str:
    known = [f"{_short(name)}: {_MEANINGS[name]}" for name in names if name in _MEANINGS]
    return "; ".join(["Mean per run that ended", *known]) + "."
