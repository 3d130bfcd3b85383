"""The options that belong to a command itself, and what kind of value each takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from meta_lr.cli.values import refuse_misfit

# One name means the same in all commands; a dot leads into a section.
KINDS: dict[str, Any] = {
    "seeds": Sequence[int],  # before seed, which may be the first of them
    **dict.fromkeys(("epochs", "total_steps", "threads"), int | None),
    **dict.fromkeys(("seed", "search_seed", "tune.seed"), int),
    **dict.fromkeys(("eval_every", "save_every", "record.every", "record.angle_every"), int),
    **dict.fromkeys(("sweeps", "range.total_steps", "range.sweeps"), int),
    **dict.fromkeys(("trials", "halving", "finalists", "look_ahead", "directions"), int),
    **dict.fromkeys(("trial_steps", "check_every", "patience", "val_batches"), int),
    **dict.fromkeys(("updates", "episodes", "pool", "held_out", "evaluate_every"), int),
    **dict.fromkeys(("clip", "peak", "k0", "k1", "high", "range.high"), float | None),
    **dict.fromkeys(("low", "smoothing", "safety", "threshold", "gamma", "meta_lr"), float),
    **dict.fromkeys(("range.low", "range.smoothing", "range.safety"), float),
    **dict.fromkeys(("record.angle", "three_constants", "gives_up", "robustness", "anneal"), bool),
    "average": bool,
    **dict.fromkeys(("device", "start"), str),
    "checkpoint": str | None,
    **dict.fromkeys(("baselines", "kinds", "candidates"), Sequence[str]),
}


def refuse_own_misfits(cfg: DictConfig, groups: Iterable[str]) -> None:
    """Raise a ValueError for the first of a command's own options that has another kind of value.

    Args:
        cfg: Of a command.
        groups: The names of its parts, such as "task".
    """
    sections = {name.partition(".")[0] for name in KINDS if "." in name}
    for name in sorted({*groups, *sections}):
        if name in cfg and not isinstance(cfg._get_node(name), DictConfig):
            raise ValueError(
                f"{name}={_shown(cfg, name)}; {name} has options of its own: set those, such as "
                f"{name}.NAME=..., or leave it out"
            )
    for name, kind in KINDS.items():
        section, _, key = name.rpartition(".")
        within = cfg.get(section, {}) if section else cfg
        if key in within and not OmegaConf.is_missing(within, key):
            _refuse_misfit(within, key, name, kind)


def _refuse_misfit(within: DictConfig, key: str, name: str, kind: Any) -> None:
    try:
        value = within[key]
    except InterpolationResolutionError:  # told where it is used, if it is
        return
    refuse_misfit(name, value, kind)


def _shown(cfg: DictConfig, name: str) -> str:
    value = OmegaConf.to_container(cfg)[name]  # pyright: ignore
    return "null" if value is None else str(value)
