"""How jobs end: their exit code and score; and the jobs of a sweep, wherever they ran."""

from __future__ import annotations

import io
import math
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import ListConfig


@dataclass(frozen=True)
class JobResult:
    """How a job ended, and how good its result is.

    Attributes:
        code: The exit code of the command.
        status: "finished", or how it ended otherwise, such as "diverged at step 7".
        score: What a sweep minimises; infinite for a run that diverged, None where the command has
            nothing to compare.
        measure: What the score is, such as "val error".
    """

    code: int = 0
    status: str = "finished"
    score: float | None = None
    measure: str = ""


def mean(results: Sequence[JobResult]) -> JobResult:
    """Return the mean score of runs that differ by their seed; infinite if one diverged."""
    scores = [math.inf if result.score is None else result.score for result in results]
    statuses = [result.status for result in results if result.status != "finished"]
    status = statuses[0] if statuses else "finished"
    return JobResult(0, status, sum(scores) / len(scores), results[0].measure)


@dataclass(frozen=True)
class Job:
    """A job that has ended.

    Attributes:
        number: From 1 on.
        overrides: What it was asked, such as "lr.peak=0.1".
        sweep: The folder of the folders of all jobs.
        folder: Its own one, inside of it.
        result: How it ended; None if it failed.
    """

    number: int
    overrides: tuple[str, ...]
    sweep: Path
    folder: Path
    result: JobResult | None

    def value(self, direction: str) -> float | None:
        """Return what the sweeper is given: lower is better, unless the direction is "maximize"."""
        score = None if self.result is None else self.result.score
        if score is None:
            return None
        score = math.inf if math.isnan(score) else score  # a sweeper orders numbers
        return -score if direction == "maximize" else score


_ENDED: dict[int, Job] = {}  # the jobs of this process's sweep, by number


def begin() -> None:
    """Forget the jobs of an earlier sweep."""
    _ENDED.clear()


def ended() -> list[Job]:
    """Return the jobs that have ended, in their order."""
    return [_ENDED[number] for number in sorted(_ENDED)]


def this_process() -> str:
    """Return a name of this process that no process on another machine has."""
    return f"{platform.node()} {os.getpid()}"


def note(job: Job, direction: str, home: str) -> Any:
    """Note how a job ended in the process `home`, where the sweep began, and return its value.

    A job that runs in another process returns an object instead, which a launcher sends home like
    any value that a job returns. It becomes the value there, and the job is noted.
    """
    if this_process() != home:
        return _Sent(job, direction, home)
    _ENDED[job.number] = job
    return job.value(direction)


@dataclass(frozen=True)
class _Sent:
    """A job on its way home: what is unpickled there is what `note` returns."""

    job: Job
    direction: str
    home: str

    def __reduce__(self) -> tuple[Any, ...]:
        return note, (self.job, self.direction, self.home)


def direction(conf: HydraConf) -> str:
    """Return the direction that the sweeper is set to; "minimize" if it knows none.

    Raises:
        ValueError: It is set to several.
    """
    found = conf.sweeper.get("direction", "minimize")
    if isinstance(found, ListConfig):
        raise ValueError(
            "hydra.sweeper.direction is a list; a job returns one score, so it needs minimize or "
            "maximize"
        )
    return str(getattr(found, "name", found))


def num_jobs(conf: HydraConf, overrides: Sequence[str]) -> int | None:
    """Return how many jobs a sweep has, or None if its sweeper does not say so.

    `conf` is Hydra's part of the config of one job; `overrides` are those of the sweep.
    """
    if conf.runtime.choices["hydra/sweeper"] != "basic":
        grid = conf.runtime.choices.get("hydra/sweeper/sampler") == "grid"
        return None if grid else conf.sweeper.get("n_trials")
    configured = [f"{key}={value}" for key, value in (conf.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    last = {
        override.get_key_element(): override
        for override in parser.parse_overrides([*configured, *overrides])
    }
    swept = [override for override in last.values() if override.is_sweep_override()]
    return math.prod(len(list(override.sweep_string_iterator())) for override in swept)


@contextmanager
def numbered(number: int) -> Iterator[None]:
    """Begin each line that is printed with the number of its job: other jobs print too."""
    outputs = [_Numbered(stream, f"[{number}] ") for stream in (sys.stdout, sys.stderr)]
    try:
        with redirect_stdout(outputs[0]), redirect_stderr(outputs[1]):
            yield
    finally:
        for output in outputs:
            output.finish()


class _Numbered(io.TextIOBase):
    """Writes whole lines to another stream; it is no terminal, so it gets no progress bar."""

    def __init__(self, stream: TextIO, begin: str) -> None:
        self.stream, self.begin, self.rest = stream, begin, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        if lines:
            self.stream.write("".join(f"{self.begin}{line}\n" for line in lines))
            self.stream.flush()
        return len(text)

    def finish(self) -> None:
        if self.rest:
            self.write("\n")
