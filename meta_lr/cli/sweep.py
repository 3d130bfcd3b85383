"""The jobs of a sweep: their number, how they ended, and the score that a sweeper gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from meta_lr.cli.job_result import JobResult


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

    @property
    def score(self) -> float | None:
        """What the sweeper is given: lower is better; infinite where it is no number."""
        score = None if self.result is None else self.result.score
        return math.inf if score is not None and math.isnan(score) else score


def refuse_unsuited(conf: HydraConf) -> None:
    """Raise a ValueError for a sweep whose jobs run elsewhere, or whose score is to be large."""
    launcher = conf.runtime.choices["hydra/launcher"]
    if launcher != "basic":
        raise ValueError(f"hydra/launcher={launcher}: jobs run here, one after the other; drop it")
    found = conf.sweeper.get("direction", "minimize")
    if getattr(found, "name", found) != "minimize":
        raise ValueError(f"hydra.sweeper.direction={found}; a lower score is better: minimize")


def num_jobs(conf: HydraConf, overrides: Sequence[str]) -> int | None:
    """Return how many jobs a sweep has, or None if its sweeper does not say so.

    Args:
        conf: Hydra's part of the config of one of its jobs.
        overrides: Of the sweep, as they were given.
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
