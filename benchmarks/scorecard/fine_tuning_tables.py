"""The tables of fine-tuning and of run lengths: differences of logs of losses, nats."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.scorecard.fine_tuning_runs import FINE_TUNING, LENGTHS, ORACLE, PARTS, USUAL
from benchmarks.scorecard.run_lengths import EXTENDED, RESTARTED, place
from benchmarks.scorecard.second_tasks import BEFORE, NEW, OLD
from benchmarks.scorecard.store import Row, Rows
from benchmarks.scorecard.table import FAILED, interval, markdown
from benchmarks.scorecard.tuned import AVERAGED

_ALIKE = 1e-4  # nats; a result this close to the bound of a diverged run counts as diverged
_STOPS = (0.25, 0.5, 0.75, 1.0)

Where = tuple[str, str]  # a method, and the place of a measurement


def new_task(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return the table of the second task: its final loss minus that of the tuned cosine."""
    changes = PARTS[FINE_TUNING].families
    head = ["method", "mean [95 %]", "spread over seeds", "failures", *changes]
    methods = (*names, *PARTS[FINE_TUNING].cosines)
    body = [_new(rows, name, kind) for name in methods for kind in ("", AVERAGED)]
    return markdown([head, *body])


def old_task(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return the table of the first task: the increase of its loss by fine-tuning."""
    head = ["method", "mean [95 %]", *PARTS[FINE_TUNING].families]
    body = []
    for name in (*names, *PARTS[FINE_TUNING].cosines):
        for kind in ("", AVERAGED):
            lost = apart(rows, FINE_TUNING, (name, OLD + kind), (name, BEFORE))
            body.append([name + kind, *_cells(lost)])
    return markdown([head, *body])


def stopped(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return the table of runs that stop early, minus the tuned cosine planned for that length."""
    head = ["method", *("T/4", "T/2", "3T/4", "T")]
    body = []
    for name in (*names, ORACLE):
        for kind in ("", AVERAGED):
            planned = {
                f"planned for {plan:g} T": {s: plan for s in _stops(plan)} for plan in (1, 4)
            }
            planned["planned for that length"] = {stop: stop for stop in _STOPS}
            for words, plans in planned.items():
                cells = [_stop(rows, name, plans.get(stop), stop, kind) for stop in _STOPS]
                body.append([f"{name}{kind}, {words}", *cells])
    return markdown([head, *body])


def continued(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return the table of runs that continue to 2 T, minus the tuned cosine planned for 2 T."""
    ways = {
        "goes on past its end": place(1, 1),
        "a new schedule for T more steps": RESTARTED,
        "its state in a schedule of 2 T": EXTENDED,
        "planned for 2 T": place(2, 2),
    }
    body = []
    for name in (*names, ORACLE):
        for words, where in ways.items():
            found = apart(rows, LENGTHS, (name, where), (ORACLE, place(2, 2)))
            body.append([f"{name}, {words}", *_cells(found)])
    return markdown([["method", "mean [95 %]", *PARTS[LENGTHS].families], *body])


def apart(rows: Rows, part: str, ours: Where, theirs: Where) -> dict[str, float]:
    """Return the mean difference over each family's problems."""
    found = {}
    for family in PARTS[part].families:
        numbers = sorted({number for of, number, name in rows if (of, name) == (family, ours[0])})
        found[family] = statistics.fmean(
            _mean(rows, family, number, *ours) - _mean(rows, family, number, *theirs)
            for number in numbers
        )
    return found


def _new(rows: Rows, name: str, kind: str) -> list[str]:
    found = apart(rows, FINE_TUNING, (name, NEW + kind), (ORACLE, NEW))
    of = [row for key, row in rows.items() if key[0] in found and key[2] == name]
    spread = statistics.fmean(statistics.stdev(row["logs"][NEW + kind]) for row in of)
    failures = f"{sum(_failed(rows, row, NEW + kind) for row in of)} of {len(of)}"
    mean, *by_change = _cells(found)
    return [name + kind, mean, f"{spread:.3f}", failures, *by_change]


def _failed(rows: Rows, row: Row, where: str) -> bool:
    """Return whether a run diverged, or the mean is worse than at a tenth of the usual peak."""
    logs, usual = row["logs"][where], _mean(rows, row["family"], row["number"], USUAL, NEW)
    ends = zip(logs, row["worst"], strict=True)
    return any(log >= worst - _ALIKE for log, worst in ends) or (
        statistics.fmean(logs) - usual > FAILED
    )


def _stops(planned: float) -> Sequence[float]:
    return _STOPS if planned == 1 else _STOPS[-1:]


def _stop(rows: Rows, name: str, planned: float | None, stop: float, kind: str) -> str:
    if planned is None:
        return "-"
    base = (ORACLE, place(stop, stop))
    return _shown(apart(rows, LENGTHS, (name, place(planned, stop) + kind), base))


def _mean(rows: Rows, family: str, number: int, name: str, where: str) -> float:
    return statistics.fmean(rows[family, number, name]["logs"][where])


def _cells(by_family: Mapping[str, float]) -> list[str]:
    return [_shown(by_family), *(f"{one:+.3f}" for one in by_family.values())]


def _shown(by_family: Mapping[str, float]) -> str:
    return "{:+.3f} ±{:.3f}".format(*interval([*by_family.values()]))


# For each part: title -> the function that makes the table.
TABLES: dict[str, dict[str, Callable[[Rows, Sequence[str]], list[str]]]] = {
    FINE_TUNING: {
        "new task: log loss less that of the tuned cosine": new_task,
        "old task: log loss less that before fine-tuning": old_task,
    },
    LENGTHS: {
        "stopped early: log loss less that of the tuned cosine planned for that length": stopped,
        "continued to 2 T: log loss less that of the tuned cosine planned for 2 T": continued,
    },
}
