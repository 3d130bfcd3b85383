"""Reading of episodic meta-trainings: one frozen `MetaRun` per `records.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meta_lr.records.reader import NAME, Record, read_record, rows_from
from meta_lr.records.rows import META_TRAINING, Row
from meta_lr.report.groups import flat_config, told_apart
from meta_lr.report.rows import Array, column, folders_below, number, origin


@dataclass(frozen=True)
class Scores:
    """Scores during a meta-training, each array (rows,), in nats relative to the baseline."""

    update: Array
    cost: Array
    score: Array


@dataclass(frozen=True)
class MetaRun:
    """The record of one meta-training.

    `origin` is that of `meta_lr.report.rows`; `yardstick` holds the settings that define its
    scores. A score, or the update of one, is nan if there is none.
    """

    folder: Path
    origin: Mapping[str, object]
    family: str
    yardstick: str
    held_out: int
    peak: float
    seed: int
    settings: Mapping[str, str]
    running: Scores
    looks: Scores
    updates: int
    total_updates: int
    num_diverged: int
    cost: float
    seconds: float
    finished: bool

    @property
    def best_score(self) -> float:
        """The best score on the held-out problems."""
        return self._at(self.looks.score, self._best)

    @property
    def best_update(self) -> float:
        """The update of the best score."""
        return self._at(self.looks.update, self._best)

    @property
    def last_score(self) -> float:
        """The last score on the held-out problems."""
        return self._at(self.looks.score, -1)

    @property
    def _best(self) -> int:
        known = np.where(np.isnan(self.looks.score), np.inf, self.looks.score)
        return int(known.argmin()) if known.size else -1

    @staticmethod
    def _at(values: Array, index: int) -> float:
        return float(values[index]) if values.size else float("nan")


def find_meta_runs(folder: Path) -> list[MetaRun]:
    """Read every episodic meta-training at or below `folder`; return [] if it holds plain runs.

    Raises:
        ValueError: `folder` is no directory, a record cannot be read, or there are both kinds.
    """
    records = {place: read_record(place) for place in folders_below(folder)}
    mine = [place for place, record in records.items() if record.is_meta_training]
    others = [p for p, record in records.items() if record.rows and not record.is_meta_training]
    if mine and others:
        raise ValueError(
            f"'{folder}' holds episodic meta-trainings ({mine[0]}, ...) and runs of "
            f"training ({others[0]}, ...), which share no table; pass a folder of one kind"
        )
    return [_read(place, records[place]) for place in mine]


def labels_of(runs: Sequence[MetaRun]) -> list[str]:
    """Return a name for each run: the settings, without the seed, that differ from the others."""
    keys = [repr(sorted(run.settings.items())) for run in runs]
    variants = dict(zip(keys, (run.settings for run in runs), strict=True))
    names = dict(zip(variants, told_apart(list(variants.values())), strict=True))
    return [names[key] or run.family for key, run in zip(keys, runs, strict=True)]


def _read(folder: Path, record: Record) -> MetaRun:
    header, last = record.header, record.rows[-1]
    latest = record.updates[-1] if record.updates else {}
    with rows_from(folder / NAME):
        return MetaRun(
            folder=folder,
            origin=origin(header),
            family=str(header["family"]),
            yardstick=str(header["yardstick"]),
            held_out=int(header["held_out"]),
            peak=float(header["peak"]),
            seed=int(header["seed"]),
            settings=_settings(header),
            running=_scores(record.updates),
            looks=_scores(record.held_out),
            updates=int(latest.get("update", 0)),
            total_updates=int(header["updates"]),
            num_diverged=int(latest.get("diverged", 0)),
            cost=number(last, "cost"),
            seconds=number(last, "seconds"),
            finished=bool(record.end),
        )


def _scores(rows: list[Row]) -> Scores:
    return Scores(column(rows, "update"), column(rows, "cost"), column(rows, "score"))


def _settings(header: Row) -> dict[str, str]:
    """Return the settings without the seed; classes are given only by their names."""
    flat: dict[str, Any] = flat_config(header.get("config") or {"plan": header[META_TRAINING]})
    flat.pop("checkpoint", None)
    named = {key: key.removesuffix("._target_") for key in flat}
    return {
        short: flat[key] if short == key else flat[key].rpartition(".")[2]
        for key, short in named.items()
    }
