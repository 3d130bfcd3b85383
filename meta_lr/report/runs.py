"""Reading of run folders: one frozen `Run` per `records.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from meta_lr.records.reader import NAME, Record, read_record, rows_from
from meta_lr.records.rows import COUNTED, Row
from meta_lr.report.rows import Array, column, folders_below, number, origin
from meta_lr.visible import visible


@dataclass(frozen=True)
class Header:
    """What was run; costs are in plain training steps, nan if they were not recorded.

    `peak` is the method's highest learning rate, or that of a learned method at full output (nan:
    none, or not recorded). `tuned` is whether it was chosen on val (None: not recorded). `average`
    is whether the run kept an average of its last weights.
    """

    command: str
    task: str
    model: str
    optimizer: str
    method: str
    seed: int
    total_steps: int
    config: Mapping[str, Any]
    checkpoint: str | None
    search_cost_before: float
    meta_training_cost: float
    peak: float
    tuned: bool | None
    average: bool


@dataclass(frozen=True)
class Steps:
    """One entry per recorded step, each array of shape (rows,); `cost` includes `search_cost`."""

    step: Array
    loss: Array
    lr: Array
    cost: Array
    search_cost: Array
    seconds: Array


@dataclass(frozen=True)
class Evaluation:
    """One pass over a split; `accuracy` is in [0, 1], or nan if the task has none."""

    step: int
    split: str
    weights: str
    loss: float
    accuracy: float
    cost: float


@dataclass(frozen=True)
class Run:
    """The record of one run; `status` is that of the end row, or "unfinished" without an end row.

    `origin` is that of `meta_lr.report.rows`. `counts` are the counts of the controller's events,
    by name; only a run that ended has them.
    """

    folder: Path
    origin: Mapping[str, object]
    header: Header
    steps: Steps
    evaluations: tuple[Evaluation, ...]
    status: str
    num_steps: int
    cost: float
    search_cost: float
    seconds: float
    search_seconds: float
    counts: Mapping[str, float]

    @property
    def diverged(self) -> bool:
        """Whether the run diverged."""
        return self.status.startswith("diverged")

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step."""
        return self.status == "finished"


def find_runs(folder: Path) -> list[Run]:
    """Read every run at or below `folder`, in the order of their paths.

    A record without a header (the run has just begun) is skipped.

    Raises:
        ValueError: `folder` is no directory, holds no records, or a record cannot be read.
    """
    loaded = (_read(place) for place in folders_below(folder))
    runs = [run for run in loaded if run is not None]
    if not runs:
        raise ValueError(
            f"no {NAME} with a run in it at or below '{folder}'; "
            "pass the folder of a run, a sweep or a transfer"
        )
    return runs


def read_run(folder: Path) -> Run:
    """Read the run in `folder`; a last line that was cut off is left out.

    Raises:
        ValueError: There is no record, a line is damaged, or the record has a newer format.
    """
    if not (folder / NAME).is_file():
        raise ValueError(f"'{folder}' holds no {NAME}; pass the folder of a run")
    run = _read(folder)
    if run is None:
        raise ValueError(f"'{folder / NAME}' is empty: the run wrote nothing; start it again")
    return run


def _read(folder: Path) -> Run | None:
    record = read_record(folder)
    if not record.rows:
        return None
    with rows_from(folder / NAME):
        return _run(folder, record)


def _run(folder: Path, record: Record) -> Run:
    header, steps = _header(folder / NAME, record), _steps(record.steps)
    end = record.end or _so_far(steps)
    return Run(
        folder=folder,
        origin=origin(record.header),
        header=header,
        steps=steps,
        evaluations=tuple(map(_evaluation, record.evaluations)),
        status=_status(end),
        num_steps=int(end["steps"]),
        cost=number(end, "cost"),
        search_cost=number(end, "search_cost"),
        seconds=number(end, "seconds"),
        search_seconds=number(end, "search_seconds"),
        counts={name: number(end, name) for name in end if name.startswith(COUNTED)},
    )


def _header(path: Path, record: Record) -> Header:
    row = record.header
    if record.is_meta_training:
        raise ValueError(
            f"'{path}' is the record of an episodic meta-training, which holds no single run; "
            "pass the folder of a run"
        )
    try:
        return Header(
            command=str(row.get("command", "")),
            task=str(row["task"]),
            model=str(row["model"]),
            optimizer=str(row["optimizer"]),
            method=str(row["method"]),
            seed=int(row["seed"]),
            total_steps=int(row["total_steps"]),
            config=dict(row.get("config") or {}),
            checkpoint=row.get("checkpoint"),
            search_cost_before=number(row, "search_cost_before", missing=0.0),
            meta_training_cost=number(row, "meta_training_cost"),
            peak=number(row, "peak"),
            tuned=row.get("tuned"),
            average=row.get("average") is True,
        )
    except KeyError as missing:
        raise ValueError(f"the header of '{path}' lacks {missing}; remove the run") from None


def _steps(rows: list[Row]) -> Steps:
    return Steps(*(column(rows, field.name) for field in fields(Steps)))


def _evaluation(row: Row) -> Evaluation:
    return Evaluation(
        step=int(row["step"]),
        split=str(row["split"]),
        weights=str(row.get("weights", "current")),
        loss=number(row, "loss"),
        accuracy=number(row, "accuracy"),
        cost=number(row, "cost"),
    )


def _so_far(steps: Steps) -> Row:
    """Return an end row for a run that does not have one yet."""
    last = {name: getattr(steps, name)[-1:].sum() for name in ("cost", "search_cost", "seconds")}
    num_steps = int(steps.step[-1]) + 1 if steps.step.size else 0
    return {"status": "unfinished", "steps": num_steps, **last}


def _status(end: Row) -> str:
    status = str(end.get("status", ""))
    known = status == "finished" or status.startswith("diverged")
    return visible(status) if known else "unfinished"
