"""What a run's folder holds when the run begins: a state and a record that belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

from meta_lr.records.reader import NAME, Record, finished, read_record
from meta_lr.records.writer import check_start
from meta_lr.training import saving

STATE = "state.pt"


class Found(NamedTuple):
    """What a folder holds."""

    saved: dict[str, Any] | None  # the state, if there is one
    record: Record  # of a run that has ended; else empty


def found_in(folder: Path, like: Mapping[str, Any]) -> Found:
    """Return what `folder` holds of a run.

    The record of a run that goes on is checked against its state by `Recorder.open`.

    Args:
        folder: The run's.
        like: What this run would save now: its identity is that of the state, and a state has
            all its names.

    Raises:
        ValueError: The folder holds another run, a damaged one, or files of different moments.
    """
    record = read_record(folder) if finished(folder) else Record(())
    path = folder / STATE
    if not path.exists():
        if record.rows:
            raise ValueError(
                f"{folder} has the record of a finished run, but no {STATE} with its weights; "
                f"{saving.AGAIN}"
            )
        return Found(None, record)
    saved = saving.load(path, like)
    if record.rows:
        check_start(folder, saved["offset"], saved.get("record"))
    return Found(saved, record)


def refuse_other_moment(folder: Path, saved: int, ended: int | None, unit: str) -> None:
    """Raise a ValueError if a run ended elsewhere than its state was saved.

    Args:
        folder: The run's.
        saved: Steps, or updates, that the state has taken.
        ended: Those of the end of the record.
        unit: What is counted, such as "step".
    """
    if saved != ended:
        raise ValueError(
            f"{folder / STATE} was saved after {unit} {saved}, but {NAME} ends after {unit} "
            f"{ended}, so its weights are not those of the end; {saving.AGAIN}"
        )


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn what a state of other shapes or types leads to into one line.

    Raises:
        ValueError: It names the state at `path`.
    """
    try:
        yield
    except Exception as error:  # a model's, an optimizer's or a controller's: of any kind
        reason = shorten(str(error), 120, placeholder=" ...") or type(error).__name__
        raise ValueError(
            f"{path} does not fit this run ({reason}); use another folder, or remove that one"
        ) from error
