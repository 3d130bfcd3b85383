"""What a run shows: a bar on a terminal, else one line per evaluation; a log line always."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from meta_lr.training.record import Listener

log = logging.getLogger(__name__)

Row = dict[str, Any]


@contextmanager
def watched(title: str, total_steps: int) -> Iterator[Listener]:
    """Give a listener that shows and logs the rows of one run.

    Args:
        title: What is being trained.
        total_steps: Length of the run.
    """
    latest: Row = {}

    def note(row: Row) -> str | None:
        """Keep the latest step; return a line for an evaluation or the end."""
        if row["kind"] == "step":
            latest.update(row)
        return _line(row, latest, total_steps)

    if not sys.stdout.isatty():
        yield lambda row: _tell(title, note(row), echo=True)
        return
    with _bar() as bar:
        task = bar.add_task(title, total=total_steps, status="")
        speed = _Speed()

        def show(row: Row) -> None:
            _tell(title, note(row), echo=False)
            if row["kind"] == "step":
                status = f"loss {row['loss']:.4f}  rate {row['lr']:.3g}  {speed(row)} steps/s"
                bar.update(task, completed=row["step"] + 1, status=status)

        yield show


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
        transient=True,
        refresh_per_second=4,
    )


class _Speed:
    """Steps per second, smoothed over about two seconds of the run's own clock."""

    def __init__(self) -> None:
        self.start: tuple[float, float] | None = None
        self.text = "-"

    def __call__(self, row: Row) -> str:
        if self.start is None:
            self.start = row["step"], row["seconds"]
        elapsed = row["seconds"] - self.start[1]
        if elapsed >= 2.0 or (self.text == "-" and elapsed > 0.2):
            self.text = f"{(row['step'] - self.start[0]) / elapsed:,.0f}"
            self.start = row["step"], row["seconds"]
        return self.text


def _tell(title: str, line: str | None, *, echo: bool) -> None:
    if line is None:
        return
    log.info("%s  %s", title, line)
    if echo:
        print(f"{title}  {line}", flush=True)


def _line(row: Row, latest: Row, total_steps: int) -> str | None:
    """Return the line that a row is worth, with the latest step's loss and rate."""
    if row["kind"] == "end":
        return f"{row['status']} after {row['steps']} steps, {row['seconds']:.1f} s"
    if row["kind"] != "eval":
        return None
    words = [f"step {row['step']}/{total_steps}"]
    if row["split"] == "val" and latest:
        words += [f"loss {latest['loss']:.4f}", f"rate {latest['lr']:.3g}"]
    where = row["split"] if row["split"] == "val" else f"{row['split']} ({row['weights']})"
    words += [f"{where} {name} {row[name]:.4f}" for name in ("loss", "accuracy") if name in row]
    words += [f"cost {row['cost']:,.0f}", f"{row['seconds']:.1f} s"]
    return "  ".join(words)
