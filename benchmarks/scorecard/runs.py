"""The runs of a scorecard: the list of all runs, and the row of each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.scorecard import families
from benchmarks.scorecard.finals import Finals
from benchmarks.scorecard.problems import CHOOSING, SCORING, TRAINING, made
from benchmarks.scorecard.store import Key
from benchmarks.scorecard.tuned import tuned

TUNED = "tuned"  # the method whose peak is chosen


class Method(NamedTuple):
    """A method without tuning: it runs on the scoring seeds alone."""

    run: Callable[[str, int, int], Finals]  # (family, number, seed) -> the result of a run
    fingerprint: str  # a row with another fingerprint is made again
    skips: frozenset[str] = frozenset()  # families that it does not apply to


Methods = Mapping[str, Method]


def asked(numbers: Sequence[int], methods: Methods) -> Iterator[Key]:
    """Yield all keys of a scorecard, problem by problem, so that all families progress equally."""
    for number in numbers:
        for family in (TRAINING, *families.FAMILIES):
            yield family, number, TUNED
            if family != TRAINING:
                fitting = (name for name, method in methods.items() if family not in method.skips)
                yield from ((family, number, name) for name in fitting)


def run(key: Key, methods: Methods) -> dict[str, Any]:
    """Return the row of one problem and method."""
    family, number, name = key
    first = made(family, number, SCORING[0])
    row = {"family": family, "number": number, "method": name, "steps": first.total_steps}
    if name == TUNED:
        problems = [made(family, number, seed) for seed in CHOOSING + SCORING]
        return {**row, "unit": first.unit, **tuned(problems)}
    method = methods[name]
    found = [method.run(family, number, seed) for seed in SCORING]
    return {
        **row,
        "fingerprint": method.fingerprint,
        "logs": [log for one in found for log in one.logs],
        "averaged": [log for one in found for log in one.averaged],
        "worst": [one.worst for one in found],
    }


def kept(row: Mapping[str, Any] | None, methods: Methods) -> bool:
    """Return whether a row exists, is complete, and is from the current version of the method."""
    if row is None or "worst" not in row:  # rows of earlier scorecards have no such entry
        return False
    return row["method"] == TUNED or row["fingerprint"] == methods[row["method"]].fingerprint
