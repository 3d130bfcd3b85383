"""The saved parts of a meta-training, one per process; a resume may use another process count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Part = Mapping[str, Any]  # what `MetaTraining.saved` returned


def share(parts: Sequence[Part], place: int, count: int) -> Part:
    """Return the part of process `place` of `count`.

    With the same number of processes, the meta-training continues bit-identically. With another
    number, it continues with the same windows of the same problems, so phi is the same except for
    the order of summation. The cost may differ, because each process computes the baseline curves
    that it needs.
    """
    if len(parts) == count:
        return parts[place]
    num_workers = sum(len(part["slots"]) for part in parts)
    slots = [parts[worker % len(parts)]["slots"] for worker in range(num_workers)]
    mine = range(place, num_workers, count)
    return {
        **parts[0],
        "owed": sum(part["owed"] for part in parts) if place == 0 else 0.0,
        "begun": {k: n for k, n in _union(parts, "begun").items() if k % count == place},
        "curves": _union(parts, "curves"),
        "goals": _union(parts, "goals"),
        "slots": [slots[worker][worker // len(parts)] for worker in mine],
    }


def _union(parts: Sequence[Part], name: str) -> dict[int, Any]:
    return {key: value for part in parts for key, value in part[name].items()}
