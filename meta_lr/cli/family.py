"""A checkpoint and the optimizer of a command: whether they fit, and which overrides help."""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from meta_lr.cli import parts
from meta_lr.cli.conf_files import conf_dir
from meta_lr.methods.piecewise import Piecewise
from meta_lr.optim import rules
from meta_lr.protocol import Controller

_CHOICES = {"sgd": "sgd_plain", "sgd_momentum": "sgd"}  # of files not named as their family


def optimizer_choice(family: str) -> str | None:
    """Return the file in `conf/optimizer` that gives an optimizer of this family, if any."""
    name = _CHOICES.get(family, family)
    return name if (conf_dir() / "optimizer" / f"{name}.yaml").is_file() else None


def refuse_other_family(controller: Controller, cfg: DictConfig, *, option: str) -> None:
    """Raise a ValueError, before anything is trained, if the controller's rates are of another one.

    `option` is what sets a checkpoint's maximum learning rate, such as "lr.peak".
    """
    learned = getattr(controller, "family", "")
    optimizer = parts.build(cfg.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    present = rules.family(optimizer)
    if learned and learned != present:
        choice = optimizer_choice(learned)
        fitting = f"optimizer={choice}, or " if choice else ""
        what, other = "checkpoint", f"{option}=..., the maximum learning rate with {present}"
        if isinstance(controller, Piecewise):
            what, other = "policy", f"lr.family={present} to take its rates as they are"
        raise ValueError(
            f"the {what}'s rate was learned with {learned}, and the optimizer is {present}; "
            f"pass {fitting}{other}"
        )
