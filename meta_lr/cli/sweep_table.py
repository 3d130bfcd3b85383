"""The jobs of a sweep as a table: the best first, those without a result last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

from meta_lr.cli.shown import Column, drawn
from meta_lr.cli.shown import width as present_width
from meta_lr.cli.sweep import Job
from meta_lr.visible import visible

_LEAST = 8  # characters of an option that are always in one line


def table(jobs: Sequence[Job], *, width: int | None = None) -> str:
    """Return jobs with the options by which they differ, in `width` characters, see `shown.width`.

    The best score comes first; then those that diverged, then those that failed. Long options are
    folded. The column with the folders is left out where there is no room for it.
    """
    width = width or present_width()
    rows = sorted(jobs, key=_rank)
    columns = [
        Column("job", [str(job.number) for job in rows]),
        *(
            Column(name, [_option(job, name) for job in rows], True, _LEAST)
            for name in _varied(rows)
        ),
        Column(_measure(rows), [_outcome(job) for job in rows]),
    ]
    folders = [visible(job.folder.name) if job.result else "-" for job in rows]
    whole = [*columns, Column(visible(f"in {rows[0].sweep}"), folders)]
    return drawn(whole if sum(column.width for column in whole) <= width else columns, width)


def _rank(job: Job) -> tuple[float, ...]:
    if job.result is None:
        return 2, 0.0, job.number
    score = 0.0 if job.result.score is None else job.result.score
    return (0, score, job.number) if math.isfinite(score) else (1, 0.0, job.number)


def _varied(jobs: Sequence[Job]) -> list[str]:
    """Return the names of the options that are not the same in all jobs."""
    given = [_options(job) for job in jobs]
    names = dict.fromkeys(name for options in given for name in options)
    return [name for name in names if len({options.get(name) for options in given}) > 1]


def _options(job: Job) -> dict[str, str]:
    pairs = (visible(override).partition("=") for override in job.overrides)
    return {name: value for name, _, value in pairs}


def _option(job: Job, name: str) -> str:
    """Return the value of an option; of a long number its first six digits."""
    value = _options(job).get(name, "-")
    with suppress(ValueError):
        return f"{float(value):.6g}" if len(value) > 10 else value
    return value


def _measure(jobs: Sequence[Job]) -> str:
    """Return the heading of the scores; where jobs differ in it, all of them."""
    found = [job.result.measure for job in jobs if job.result and job.result.measure]
    return " / ".join(dict.fromkeys(found)) or "result"


def _outcome(job: Job) -> str:
    if job.result is None:
        return "failed"
    score = job.result.score
    if score is None or not math.isfinite(score):
        return job.result.status
    return f"{score:.4f}" if score < 1_000 else f"{score:,.0f}"
