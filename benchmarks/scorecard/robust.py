"""Changes of a problem that should not change the result of a schedule without tuning.

The changes are a multiplied loss, multiplied inputs, and larger initial weights. With them the best
learning rate differs, but the loss that can be reached hardly changes. Adam's epsilon and weight
decay are not adapted to such a change, but matter little at these sizes. Larger initial weights are
another start, so some difference is acceptable there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.scorecard.finals import Finals
from benchmarks.scorecard.learned import steered
from benchmarks.scorecard.problems import made
from benchmarks.scorecard.runs import Method
from benchmarks.scorecard.store import Rows
from benchmarks.scorecard.table import interval, markdown
from benchmarks.scorecard.tasks import ArrayTask
from meta_lr.methods.self_tuning.schedule import SelfTuning

CLOSE = 0.03  # nats: a smaller difference counts as the same result
TEXTS = frozenset({"transformer", "recurrent"})  # families whose inputs cannot be multiplied


class Change(NamedTuple):
    """A change of a problem."""

    of: Callable[[ArrayTask], ArrayTask]
    loss: float = 1.0  # the factor of the loss; it is removed from the result
    skips: frozenset[str] = frozenset()


def _losses(factor: float, task: ArrayTask) -> ArrayTask:
    return replace(task, measure=partial(_times, factor, task.measure))


def _inputs(factor: float, task: ArrayTask) -> ArrayTask:
    return replace(task, inputs=factor * task.inputs)


def _weights(factor: float, task: ArrayTask) -> ArrayTask:
    return replace(task, network=partial(_larger, factor, task.network))


def _times(
    factor: float, measure: Callable[..., Tensor], outputs: Tensor, targets: Tensor
) -> Tensor:
    return factor * measure(outputs, targets)


def _larger(factor: float, network: Callable[[], nn.Module]) -> nn.Module:
    model = network()
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim > 1:
                tensor.mul_(factor)
    return model


CHANGES: dict[str, Change] = {
    "loss x 0.1": Change(partial(_losses, 0.1), 0.1),
    "loss x 10": Change(partial(_losses, 10.0), 10.0),
    "inputs x 3": Change(partial(_inputs, 3.0), skips=TEXTS),
    "weights x 2": Change(partial(_weights, 2.0)),
}


def methods(name: str, schedule: SelfTuning) -> dict[str, Method]:
    """Return the schedule on the changed problems, by the name of the change."""
    return {
        f"{name}, {change}": Method(
            partial(_run, how, schedule), f"{schedule.fingerprint}, {change}", how.skips
        )
        for change, how in CHANGES.items()
    }


def _run(change: Change, schedule: SelfTuning, family: str, number: int, seed: int) -> Finals:
    problem = made(family, number, seed)
    task: Any = problem.task
    found = steered(problem._replace(task=change.of(task)), schedule)
    taken = math.log(change.loss)
    logs, averaged = ([log - taken for log in logs] for logs in found[:2])
    return Finals(logs, averaged, found.worst - taken)


def lines(rows: Rows, name: str, families: Sequence[str]) -> list[str]:
    """Return the table in Markdown: results on changed problems minus those on plain ones."""
    head = ["change", "mean [95 %]", f"within {CLOSE:g}", "worse by more", *families]
    present = [one for one in CHANGES if any(key[2] == f"{name}, {one}" for key in rows)]
    return markdown([head, *(_line(rows, name, change, families) for change in present)])


def _line(rows: Rows, name: str, change: str, families: Sequence[str]) -> list[str]:
    apart: dict[str, list[float]] = {}
    for (family, number, method), row in rows.items():
        if method == f"{name}, {change}":
            plain = statistics.fmean(rows[family, number, name]["logs"])
            apart.setdefault(family, []).append(statistics.fmean(row["logs"]) - plain)
    means = {family: statistics.fmean(of) for family, of in apart.items()}
    every = [one for of in apart.values() for one in of]
    mean, spread = interval([*means.values()])
    cells = [f"{means[family]:+.3f}" if family in means else "-" for family in families]
    tests = (sum(abs(one) <= CLOSE for one in every), sum(one > CLOSE for one in every))
    counts = [f"{count} of {len(every)}" for count in tests]
    return [change, f"{mean:+.3f} ±{spread:.3f}", *counts, *cells]
