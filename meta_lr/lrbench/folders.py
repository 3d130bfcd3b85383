"""Run folders as results: the result of each `records.jsonl`, for the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from meta_lr.lrbench.metrics import curve_of
from meta_lr.lrbench.result import Result
from meta_lr.records.reader import NAME, Record, read_record, records_below, rows_from
from meta_lr.records.rows import Row
from meta_lr.visible import visible

NAMES = ("loss", "accuracy", "top5", "confidence", "confidence_spread", "class_spread")
_PROBLEM = ("task", "model", "optimizer", "clip")  # parts of a config that define the problem


def run_folders(folder: Path) -> list[Path]:
    """Return the folders at or below `folder` that hold a record, in order.

    Raises:
        ValueError: There is no such folder.
    """
    found = [path.parent for path in records_below(folder)]
    if not found:
        raise ValueError(f"no {NAME} at or below '{folder}'; pass the folder of a run or a sweep")
    return found


def result_of(folder: Path) -> Result | None:
    """Return the result of the run in `folder`; None if it has not ended, or was no single run.

    The policy is the header's `policy`, or else its `controller`; `scale` is the header's. The
    confidences are present if the run's task was `Scored`.

    Raises:
        FileNotFoundError: There is no record.
        ValueError: The record is damaged.
    """
    path, record = folder / NAME, read_record(folder)
    if not record.end or not _is_single(record):
        return None
    with rows_from(path):
        return _result(record, folder, datetime.fromtimestamp(path.stat().st_mtime, timezone.utc))


def kind_of(folder: Path) -> str:
    """Return the kind of a record without a result, such as "unfinished run"."""
    record = read_record(folder)
    if record.is_meta_training:
        return "episodic meta-training"
    return "unfinished run" if _is_single(record) else "range test"


def train_loss(record: Record) -> float | None:
    """Return the mean of the recorded losses of the last pass over the training data.

    These are the losses of the training steps, in train mode and with augmentation, as in a
    framework's log of its last epoch; the weights change during the pass. Return None if no step of
    that pass was recorded.
    """
    first = record.end["steps"] - record.header["steps_per_epoch"]
    losses = [row["loss"] for row in record.steps if row["step"] >= first]
    return sum(losses) / len(losses) if losses else None


def setting(config: Mapping[str, Any], data: str | None = None) -> str:
    """Return a hash (eight hex digits) of the problem in a config; "" if it defines no problem.

    Args:
        config: The config; only its task, model, optimizer and clipping are used, not the seed.
        data: The fingerprint of the task's data, which is also used; None if it is unknown.
    """
    parts = {name: config[name] for name in _PROBLEM if name in config}
    if not parts:
        return ""
    if data is not None:
        parts["data"] = data
    text = json.dumps(_seedless(parts), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _result(record: Record, folder: Path, ended: datetime) -> Result:
    header, end, val = record.header, record.end, record.curve
    test = {row["weights"]: row for row in record.evaluations if row["split"] == "test"}
    ended_well = not end["status"].startswith("diverged")
    return Result(
        task=header["task"],
        model=header["model"],
        optimizer=header["optimizer"],
        policy=header.get("policy") or header["controller"],
        scale=header.get("scale", 1.0),
        seed=header["seed"],
        total_steps=header["total_steps"],
        setting=setting(header.get("config") or {}, header.get("data")),
        **{name: end[name] for name in ("status", "steps", "cost", "search_cost", "seconds")},
        search_seconds=end.get("search_seconds"),
        train_loss=train_loss(record) if ended_well else None,
        **_metrics("val", val[-1] if ended_well and val else {}),
        **_metrics("test", test.get("last", {})),
        test_accuracy_best=test.get("best", {}).get("accuracy"),
        ended_at=ended.isoformat(timespec="seconds"),
        folder=visible(folder.as_posix()),
        curve=curve_of(val),
    )


def _is_single(record: Record) -> bool:
    """Return whether a record is that of a single run, not of a range test or a meta-training."""
    return not record.is_meta_training and record.header.get("command") != "range-test"


def _metrics(split: str, row: Row) -> dict[str, Any]:
    return {f"{split}_{name}": row.get(name) for name in NAMES}


def _seedless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _seedless(item) for name, item in value.items() if name != "seed"}
    return value
