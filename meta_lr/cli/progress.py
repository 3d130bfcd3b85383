"""What a run shows: a bar on a terminal, else lines; all lines go to the log file."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from meta_lr.cli.output import drawing
from meta_lr.records.rows import Row
from meta_lr.records.writer import Listener
from meta_lr.visible import visible

log = logging.getLogger(__name__)
RECENT = 20  # updates whose mean score is the running one


def watched(
    title: str, total_steps: int, *, one_of_many: bool = False
) -> AbstractContextManager[Listener]:
    """Give a listener that shows and logs the rows of one training run.

    Args:
        title: What is being trained.
        total_steps: Length of the run.
        one_of_many: Show of the run only its begin and its end; the log still has every line.
    """
    return shown(title, total_steps, Training(total_steps), one_of_many=one_of_many)


@contextmanager
def shown(
    title: str, total: int, story: Training | Updates, *, one_of_many: bool = False
) -> Iterator[Listener]:
    """Give a listener that shows and logs rows as `story` tells them, of `total` in all.

    A story yields the lines that a row is worth: "begin", "search", "eval" or "end", and the text.
    Its `progress` is how much is done after a row, and what a bar says beside it; None: no change.
    """
    title = visible(title)
    # a sweep's jobs in threads share one terminal, which has room for one bar
    alone = threading.current_thread() is threading.main_thread()
    terminal, kinds = sys.stdout.isatty() and alone, {"begin", "eval", "end"}
    if terminal:
        kinds = {"end"} if one_of_many else set()  # the bar says the rest, while it is there
    elif one_of_many:
        kinds = {"begin", "end"}

    def tell(row: Row) -> None:
        for kind, line in story.lines(row):
            line = visible(line)
            with suppress(OSError):  # a log that cannot be written ends no run
                log.info("%s  %s", title, line)
            if kind in kinds:
                print(f"{title}  {line}", flush=True)

    if not terminal:
        yield tell
        return
    with _bar() as bar:
        task = bar.add_task(title, total=total, status="")

        def show(row: Row) -> None:
            tell(row)
            progress = story.progress(row)
            if progress is not None:
                bar.update(task, completed=progress[0], status=progress[1])

        yield show


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}", markup=False),
        TimeRemainingColumn(),
        console=Console(file=drawing()),
        transient=True,
        refresh_per_second=4,
    )


@dataclass
class Training:
    """The rows of a run, turned into lines; it keeps the latest of each kind."""

    total_steps: int
    step: Row = field(default_factory=dict)
    val: Row = field(default_factory=dict)
    test: list[Row] = field(default_factory=list)
    begun: bool = False
    measured: tuple[float, float] | None = None  # step and seconds from which the speed is taken
    speed: str = "-"  # in steps per second, over about two seconds of the run's own clock

    def lines(self, row: Row) -> Iterator[tuple[str, str]]:
        """Yield the lines that a row is worth, see `shown`."""
        if not self.begun:
            self.begun = True
            where = f"goes on at step {row['step']} of" if row.get("step") else "begins,"
            yield "begin", f"{where} {self.total_steps} steps"
        if row["kind"] == "step":
            self.step = row
        elif found := _found(row):
            yield "search", f"step {row['step']}/{self.total_steps}  {found}"
        elif row["kind"] == "eval":
            if row["split"] == "test":
                self.test.append(row)
            elif row["weights"] == "current":
                self.val = row
            yield "eval", self._evaluation(row)
        elif row["kind"] == "end":
            words = [f"{row['status']} after {row['steps']} steps, {row['seconds']:.1f} s"]
            words += [f"test {_score(row)} ({row['weights']})" for row in self.test]
            yield "end", "  ".join(words)

    def progress(self, row: Row) -> tuple[int, str] | None:
        """Return the steps taken and what a bar says of a step or a search; note the speed."""
        if found := _found(row):
            return row["step"], found
        if row["kind"] != "step":
            return None
        if self.measured is None:
            self.measured = row["step"], row["seconds"]
        elapsed = row["seconds"] - self.measured[1]
        if elapsed >= 2.0 or (self.speed == "-" and elapsed > 0.2):
            self.speed = f"{(row['step'] - self.measured[0]) / elapsed:,.0f}"
            self.measured = row["step"], row["seconds"]
        val = f"  val {_score(self.val)}" if self.val else ""
        status = f"loss {row['loss']:.4f}  rate {row['lr']:.3g}{val}  {self.speed} steps/s"
        return row["step"] + 1, status

    def _evaluation(self, row: Row) -> str:
        words = [f"step {row['step']}/{self.total_steps}"]
        current = row["weights"] == "current"
        if current and self.step:
            words += [f"loss {self.step['loss']:.4f}", f"rate {self.step['lr']:.3g}"]
        where = row["split"] if current else f"{row['split']} ({row['weights']})"
        words += [f"{where} {name} {row[name]:.4f}" for name in ("loss", "accuracy") if name in row]
        words += [f"cost {row['cost']:,.0f}", f"{row['seconds']:.1f} s"]
        return "  ".join(words)


@dataclass
class Updates:
    """The rows of an episodic meta-training, turned into lines and into what a bar says."""

    total: int
    scores: list[float] = field(default_factory=list)  # the latest finite ones
    begun: bool = False

    def lines(self, row: Row) -> Iterator[tuple[str, str]]:
        """Yield the lines that a row is worth, see `shown`."""
        if not self.begun:
            self.begun = True
            resumed = row["kind"] != "header" and row.get("update")
            where = f"goes on at update {row['update']} of" if resumed else "begins,"
            yield "begin", f"{where} {self.total} updates"
        if row["kind"] == "update" and math.isfinite(row["score"]):
            self.scores = [*self.scores[1 - RECENT :], row["score"]]
        elif row["kind"] == "held_out":
            score = f"held-out {row['score']:+.4f} (best {row['best']:+.4f})"
            told = f"score {self._running()}  {score}  cost {row['cost']:,.0f}"
            yield "eval", f"update {row['update']}/{self.total}  {told}  {row['seconds']:.1f} s"
        elif row["kind"] == "end":
            yield "end", f"{row['status']} after {row['updates']} updates, {row['seconds']:.1f} s"

    def progress(self, row: Row) -> tuple[int, str] | None:
        """Return the updates taken, and running score and held-out best."""
        if row["kind"] not in ("update", "held_out"):
            return None
        return row["update"], f"score {self._running()}  held-out best {row['best']:+.4f}"

    def _running(self) -> str:
        """Return the mean score of the latest updates, in nats from the baseline."""
        return f"{sum(self.scores) / len(self.scores):+.4f}" if self.scores else "-"


def _score(row: Row) -> str:
    """Return the accuracy of an evaluation, or its loss where there is none."""
    name = "accuracy" if "accuracy" in row else "loss"
    return f"{name} {row[name]:.4f}"


def _found(row: Row) -> str:
    """Return what a search found: how a trial ended, or which rate it chose; "" of all else."""
    if row["kind"] != "searching":
        return ""
    if "chosen" in row:
        return f"search: rate {row['chosen']:.3g} is chosen"
    if "trial" not in row:
        return ""
    result = "failed" if row["loss"] is None else f"loss {row['loss']:.4f}"
    return f"search: trial {row['trial'] + 1} at rate {row['rate']:.3g}: {result}"
