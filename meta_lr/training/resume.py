"""The state and the record in a run's folder when the run begins; they must belong together."""

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
    """The content of a run's folder."""

    saved: dict[str, Any] | None  # the state, if there is one
    record: Record  # if the run has ended; else empty


def found_in(folder: Path, like: Mapping[str, Any]) -> Found:
    """Return the state and the record in `folder`.

    If the run continues, `Recorder.open` checks its record against its state.

    Args:
        folder: The run's folder.
        like: What this run would save now. A valid state has the same identity and all its names.

    Raises:
        ValueError: The folder holds another run, a damaged one, or files of different times.
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
    """Raise a ValueError if a run ended at another step than that of its saved state.

    Args:
        folder: The run's folder.
        saved: Number of steps, or updates, in the state.
        ended: The same number in the end row of the record.
        unit: What is counted, such as "step".
    """
    if saved != ended:
        raise ValueError(
            f"{folder / STATE} was saved after {unit} {saved}, but {NAME} ends after {unit} "
            f"{ended}, so its weights are not those of the end; {saving.AGAIN}"
        )


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn errors from a state with other shapes or types into an error of one line.

    Raises:
        ValueError: The state does not fit; the message names the state at `path`.
    """
    try:
        yield
    except Exception as error:  # models, optimizers and controllers raise errors of any kind
        reason = shorten(str(error), 120, placeholder=" ...") or type(error).__name__
        raise ValueError(
            f"{path} does not fit this run ({reason}); use another folder, or remove that one"
        ) from error
