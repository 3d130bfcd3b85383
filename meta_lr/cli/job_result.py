"""What a job came to: an exit code for the shell, a score for a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


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
