"""What a user asked of commands that train often: checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from meta_lr.cli import parts
from meta_lr.cli.conf_files import choices
from meta_lr.cli.errors import unknown_choice
from meta_lr.transfer import CONTROL, LEARNED


def refuse_lr(command: str, why: str, hint: Callable[[str], str] = lambda method: "") -> None:
    """Raise a ValueError for `lr=`, which other commands take; it says why, and what to pass."""
    method = HydraConfig.get().runtime.choices.get("lr")
    if method is not None:
        raise ValueError(f"lr={method} is not for {command}, which {why}{hint(method)}")


def refuse_seed(cfg: DictConfig, command: str) -> None:
    """Raise a ValueError for `seed=`, where there are `seeds=`."""
    if not OmegaConf.is_interpolation(cfg, "seed"):
        raise ValueError(f"seed={cfg.seed} is not for {command}; pass seeds=[{cfg.seed}]")


def seeds(cfg: DictConfig) -> list[int]:
    """Return the seeds of the comparison: whole numbers, none of which serves the tuning."""
    found = seeds_of(cfg)
    if peaks(cfg) and cfg.tune.seed in found:
        raise ValueError(
            f"tune.seed={cfg.tune.seed} is one of seeds={found}; tune with another one"
        )
    return found


def seeds_of(cfg: DictConfig) -> list[int]:
    """Return the whole numbers in `seeds`, of which there is at least one."""
    found = listed(cfg, "seeds")
    if not found or any(type(seed) is not int or seed < 0 for seed in found):
        raise ValueError(f"seeds={found}; a list of whole numbers is needed, such as seeds=[0,1,2]")
    if len(set(found)) < len(found):
        raise ValueError(f"seeds={found}; each seed may be there once")
    return found


def peaks(cfg: DictConfig) -> list[float]:
    """Return the peaks to tune over; none if the baselines are not tuned."""
    num = len(listed(cfg, "tune.peaks"))
    return [parts.positive(cfg, f"tune.peaks.{index}") for index in range(num)]


def baselines(cfg: DictConfig) -> list[str]:
    """Return the names of the baselines, each once."""
    names, known = list(dict.fromkeys(listed(cfg, "baselines"))), choices("lr")
    for name in names:
        if name not in known:
            raise ValueError(unknown_choice("lr", name, known))
    for name in (LEARNED, CONTROL):
        if name in names:
            raise ValueError(f"baselines={names}; {name} is compared anyway, leave it out")
    return names


def listed(cfg: DictConfig, key: str) -> list[Any]:
    """Return the list at `key`, or raise a ValueError that names it."""
    found = OmegaConf.select(cfg, key)
    if not isinstance(found, ListConfig):
        raise ValueError(f"{key}={found}; a list is needed: {key}=[{found}]")
    return list(found)
