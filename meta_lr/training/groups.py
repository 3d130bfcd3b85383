"""The parameter groups of an optimizer: which are new, and what each one's scale is."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from meta_lr import protocol

Group = dict[str, Any]


class Groups:
    """The groups of an optimizer, each with a learning rate and a scale of its own.

    A group is known by its parameters. What its scale follows from (`initial_lr`, `lr_scale`) is
    read when it is first seen, and kept when `load_state_dict` replaces its dictionary.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._seen: list[Group] = []
        self._scales: list[float] = []

    def scales(self) -> list[float]:
        """Return what the rate is multiplied by in each group; looks again if one was replaced."""
        groups = self._optimizer.param_groups
        if len(groups) != len(self._seen) or not all(map(operator.is_, groups, self._seen)):
            self._look(groups)
        return self._scales

    def _look(self, groups: list[Group]) -> None:
        known = {_params(group): group for group in self._seen}
        for group in groups:
            old = known.get(_params(group), {})
            group.update({name: old[name] for name in ("initial_lr", "lr_scale") if name in old})
            group.setdefault("initial_lr", own(group["lr"]))
        separate(self._optimizer)
        self._scales = protocol.group_scales(self._optimizer)
        self._seen = list(groups)


def separate(optimizer: Optimizer) -> None:
    """Let each group have a learning rate of its own, where a tensor was shared.

    The first group keeps the tensor, because compiled and captured steps read that one. The
    optimizer's defaults get a copy of its initial value, for groups that are added later.
    """
    first: dict[int, Group] = {}
    for group in optimizer.param_groups:
        lr = group["lr"]
        if isinstance(lr, Tensor) and first.setdefault(id(lr), group) is not group:
            group["lr"] = own(lr)
    default = optimizer.defaults.get("lr")
    if isinstance(default, Tensor) and id(default) in first:
        initial = first[id(default)].get("initial_lr", default)
        optimizer.defaults["lr"] = torch.full_like(default, float(initial))


def own(rate: float | Tensor) -> float | Tensor:
    """Return `rate`, as a copy if it is a tensor, which is written in place."""
    return rate.clone() if isinstance(rate, Tensor) else rate


def _params(group: Group) -> tuple[int, ...]:
    return tuple(map(id, group["params"]))
