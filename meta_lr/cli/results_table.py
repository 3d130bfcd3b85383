"""Results as a table for people: what all rows share above it, what does not fit left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from meta_lr.cli.flags import counted
from meta_lr.cli.shown import Column, drawn
from meta_lr.cli.shown import width as present_width
from meta_lr.visible import visible

if TYPE_CHECKING:
    from meta_lr.lrbench.listing import Row

_POLICY = 24  # characters of a policy before it folds
_LONGEST = 60  # characters of a policy that has no text of LRBench's, such as a meta-trained one


def _per_cent(value: float) -> str:
    return f"{100 * value:.2f}"


def short(policy: str) -> str:
    """Return a policy's text; of a long constructor its name and first arguments."""
    if len(policy) <= _LONGEST or policy.startswith("lrPolicy_"):
        return policy
    begin, comma, _ = policy[:_LONGEST].rpartition(", ")
    return f"{begin}{comma}..." if begin else f"{policy[:_LONGEST]}..."


_whole, _decimals = "{:,.0f}".format, "{:.4f}".format
_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {  # the last ones are the first to go
    "task": ("task", str),
    "model": ("model", str),
    "optimizer": ("optimizer", str),
    "total_steps": ("length", _whole),
    "setting": ("setting", str),
    "policy": ("policy", short),
    "scale": ("rate x", "{:g}".format),
    "seed": ("seed", str),
    "status": ("status", str),
    "cost": ("cost", _whole),
    "search_cost": ("of it\nsearch", _whole),
    "steps_to_target": ("steps to\ntarget", _whole),
    "cost_to_target": ("cost to\ntarget", _whole),
    "val_accuracy": ("val %", _per_cent),
    "test_accuracy": ("test %", _per_cent),
    "val_loss": ("val\nloss", _decimals),
    "test_loss": ("test\nloss", _decimals),
    "loss_difference": ("loss\ntest - train", _decimals),
    "robustness": ("robustness", _decimals),
    "test_top5": ("test\ntop-5 %", _per_cent),
    "test_confidence": ("confidence", _decimals),
    "test_confidence_spread": ("its\nspread", _decimals),
    "test_class_spread": ("across\nclasses", _decimals),
    "seconds": ("seconds", _whole),
    "search_seconds": ("of them\nsearch", _whole),
}
_SHARED = ("task", "model", "optimizer", "total_steps", "setting", "scale", "status")
_TEXT = ("task", "model", "optimizer", "setting", "policy", "status")
_LEAST = ("policy", "test_accuracy", "test_loss")  # what is before the last of them always stays


def table(rows: Sequence[Row], *, width: int | None = None) -> str:
    """Return rows of `meta_lr.lrbench.listing` as a table of `width` characters, see `shown.width`.

    Accuracies are in per cent; what is not known is a dash, and long constructors are cut short.
    What all rows share is told above the table, columns that no longer fit below it.
    """
    shared = [name for name in _SHARED if len({row[name] for row in rows}) == 1]
    columns = [name for name in _COLUMNS if name not in shared and not _is_idle(name, rows)]
    width = width or present_width()
    fitting = _num_fitting(columns, rows, width)
    said = [_told(name, rows[0][name]) for name in shared if not _is_idle(name, rows)]
    drawing = drawn([_column(name, rows) for name in columns[:fitting]], width)
    told = [", ".join([counted(len(rows), "result"), *said]), drawing]
    if any(short(row["policy"]) != row["policy"] for row in rows):
        told.append("\npolicies that end in ... are whole in --csv")
    if fitting < len(columns):
        names = ", ".join(_COLUMNS[name][0].replace("\n", " ") for name in columns[fitting:])
        told.append(f"\nno room for {names}; --full and --csv have all columns")
    return "\n".join(told)


def _is_idle(name: str, rows: Sequence[Row]) -> bool:
    """Return whether a column says nothing: nobody knows it, or it can only be so."""
    if name in ("val_loss", "test_loss"):  # where there is a score, it is enough
        return any(row["val_accuracy"] is not None for row in rows)
    usual = {"scale": (1,), "search_cost": (0,), "search_seconds": (None, 0)}
    return all(row[name] in usual.get(name, (None, "")) for row in rows)


def _num_fitting(columns: Sequence[str], rows: Sequence[Row], width: int) -> int:
    """Return how many columns fit, from the first on; never fewer than there must be."""
    least = max(columns.index(name) + 1 for name in _LEAST if name in columns)
    narrowest = [_column(name, rows).narrowest for name in columns]
    counts = range(least, len(columns) + 1)
    return max((n for n in counts if sum(narrowest[:n]) <= width), default=least)


def _column(name: str, rows: Sequence[Row]) -> Column:
    cells = [_cell(name, row[name]) for row in rows]
    return Column(_COLUMNS[name][0], cells, name in _TEXT, _POLICY if name == "policy" else None)


def _told(name: str, value: Any) -> str:
    """Return what all rows share, in words."""
    words = {"total_steps": "{} steps", "setting": "setting {}", "scale": "rates x {}"}
    return words.get(name, "{}").format(_cell(name, value))


def _cell(name: str, value: Any) -> str:
    return "-" if value is None else visible(_COLUMNS[name][1](value))
