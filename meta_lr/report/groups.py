"""Grouping of runs: a problem is what was trained; a group is one method on it, with its seeds."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meta_lr.report.runs import Run

# Parts of a config that define where and how often a run was made, not what was run.
WITHOUT_EFFECT = frozenset(
    "seed seeds hydra logger record folder resume save_every methods baselines threads".split()
)

CONTROL = "three_constants"  # replays the mean rate of each third of a learned run

_LONGEST_SLUG = 120  # bytes; a file name may have 255, including suffixes
_NUMBER = re.compile(r"([0-9]+)")

Settings = Mapping[str, str]


@dataclass(frozen=True)
class Group:
    """The runs of one method on one problem, by seed; `left_out` are unused repeats of a seed."""

    label: str
    runs: tuple[Run, ...]
    left_out: tuple[Path, ...] = ()

    @property
    def learned(self) -> bool:
        """Whether the learning rates came from a checkpoint."""
        return self.runs[0].header.checkpoint is not None

    @property
    def control(self) -> bool:
        """Whether the runs replay the mean learning rates of a learned run."""
        return self.runs[0].header.method == CONTROL

    @property
    def tuned(self) -> bool | None:
        """Whether the peak was chosen on val; None if the records do not have it, or disagree."""
        said = {run.header.tuned for run in self.runs}
        return said.pop() if len(said) == 1 else None

    @property
    def peaks(self) -> tuple[float, ...]:
        """The distinct peaks of the runs; () if there are none, or none were recorded."""
        known = {run.header.peak for run in self.runs if not math.isnan(run.header.peak)}
        return tuple(sorted(known))


@dataclass(frozen=True)
class Problem:
    """What was trained, and every method that trained it."""

    task: str
    model: str
    optimizer: str
    total_steps: int
    groups: tuple[Group, ...]

    @property
    def title(self) -> str:
        """One line that names the problem."""
        return f"{self.task}, {self.model}, {self.optimizer}, {self.total_steps:,} steps"

    @property
    def slug(self) -> str:
        """The title as the start of a file name; a long title is cut and gets a hash."""
        words = f"{self.task} {self.model} {self.optimizer} {self.total_steps}".lower()
        slug = "-".join("".join(c if c.isalnum() else " " for c in words).split())
        if len(slug.encode()) <= _LONGEST_SLUG:
            return slug
        digest = hashlib.blake2b(slug.encode(), digest_size=5).hexdigest()
        return f"{slug.encode()[:_LONGEST_SLUG].decode(errors='ignore')}-{digest}"


def group_runs(runs: Sequence[Run]) -> list[Problem]:
    """Sort runs into problems and methods by their headers; folder names are not used.

    Runs of one method with different configs (apart from the seed) are separate groups. Their
    labels show the keys that differ. Learned methods come first, the rest is sorted by label.
    """
    problems: dict[tuple[str, str, str, int], list[Run]] = {}
    for run in runs:
        header = run.header
        key = (header.task, header.model, header.optimizer, header.total_steps)
        problems.setdefault(key, []).append(run)
    return [Problem(*key, groups=_groups(problems[key])) for key in sorted(problems)]


def settings(run: Run) -> dict[str, str]:
    """Return the run's config as dotted keys and text, without the parts that have no effect."""
    flat = flat_config(run.header.config)
    flat.pop("checkpoint", None)
    flat.pop("average", None)  # a measurement at the end does not change the run
    if run.header.checkpoint is not None:
        flat["checkpoint"] = run.header.checkpoint[:12]  # its content, not its path
    return flat


def flat_config(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a config as dotted keys and text, without the keys for where and how often it ran."""
    return dict(_flatten(config))


def differing(groups: Sequence[Group]) -> dict[str, tuple[str, ...]]:
    """Return the settings in which the groups differ: key -> one value per group, "-" if unset."""
    return _differing([settings(group.runs[0]) for group in groups])


def _groups(runs: Sequence[Run]) -> tuple[Group, ...]:
    methods: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        key = json.dumps(settings(run), sort_keys=True)
        methods.setdefault(run.header.method, {}).setdefault(key, []).append(run)
    groups: list[Group] = []
    for method, variants in methods.items():
        texts = told_apart([settings(own[0]) for own in variants.values()])
        for own, text in zip(variants.values(), texts, strict=True):
            groups.append(_unique_seeds(f"{method} ({text})" if text else method, own))
    return tuple(sorted(groups, key=lambda group: (not group.learned, _natural(group.label))))


def _unique_seeds(label: str, runs: Sequence[Run]) -> Group:
    """Keep one run per seed: a finished one, then one with an average, then the first by path."""
    kept: dict[int, Run] = {}
    order = sorted(runs, key=lambda r: (not r.finished, not r.header.average, str(r.folder)))
    for run in order:
        kept.setdefault(run.header.seed, run)
    chosen = tuple(kept[seed] for seed in sorted(kept))
    return Group(label, chosen, tuple(run.folder for run in runs if run not in chosen))


def told_apart(variants: Sequence[Settings]) -> list[str]:
    """Return, per variant, the fewest settings (in the order of their keys) that identify it."""
    texts = [""] * len(variants)
    for key, values in sorted(_differing(variants).items()):
        extended = [
            f"{text}, {key}={value}" if text else f"{key}={value}"
            for text, value in zip(texts, values, strict=True)
        ]
        if len(set(extended)) > len(set(texts)):
            texts = extended
    return texts


def _differing(variants: Sequence[Settings]) -> dict[str, tuple[str, ...]]:
    keys = dict.fromkeys(key for variant in variants for key in variant)
    columns = {key: tuple(variant.get(key, "-") for variant in variants) for key in keys}
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def _natural(label: str) -> list[tuple[int, str]]:
    """Return a sort key that puts 20 before 100."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(label)]


def _flatten(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    if path and path[-1] in WITHOUT_EFFECT:
        return
    if isinstance(value, Mapping) and value:
        for name in value:
            yield from _flatten(value[name], (*path, str(name)))
    elif path:
        yield ".".join(path), value if isinstance(value, str) else json.dumps(value)
