"""The parameter groups of an optimizer: which are new, and what each one's scale is."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from meta_lr import protocol
from meta_lr.protocol import Controller, Need

Group = dict[str, Any]
_OWNERS = WeakIdKeyDictionary()  # tensors that are learning rates, and which optimizer has each


class Groups:
    """The groups of an optimizer, each with a learning rate and a scale of its own.

    A group is known by its parameters. What its scale follows from (`initial_lr`, `lr_scale`) is
    read when it is first seen, and kept when `load_state_dict` replaces its dictionary.

    Args:
        optimizer: The optimizer.
        check: Called whenever there are new groups; it may refuse them.
    """

    def __init__(self, optimizer: Optimizer, check: Callable[[], None]) -> None:
        self._optimizer, self._check = optimizer, check
        self._seen: list[Group] = []
        self._scales: list[float] = []

    def scales(self) -> list[float]:
        """Return what the rate is multiplied by in each group; looks again if one was replaced."""
        groups = self._optimizer.param_groups
        if len(groups) != len(self._seen) or not all(map(operator.is_, groups, self._seen)):
            self._look(groups)
        return self._scales

    def _look(self, groups: list[Group]) -> None:
        self._check()
        known = {_params(group): group for group in self._seen}
        for index, group in enumerate(groups):
            same = _params(group) in map(_params, self._seen[index : index + 1])
            old = self._seen[index] if same else known.get(_params(group), {})
            group.update({name: old[name] for name in ("initial_lr", "lr_scale") if name in old})
            group.setdefault("initial_lr", own(group["lr"]))
        separate(self._optimizer)
        self._scales = protocol.group_scales(self._optimizer)
        self._seen = list(groups)


def refuse_complex(controller: Controller, optimizer: Optimizer) -> None:
    """Raise a ValueError if the controller reads the parameters and one of them is complex."""
    if not controller.needs & (Need.PARAMS | Need.GRADS | Need.DIRECTION):
        return
    for index, group in enumerate(optimizer.param_groups):
        for p in group["params"]:
            if p.is_complex():
                raise ValueError(
                    f"parameter group {index} has a complex parameter of shape {tuple(p.shape)}, "
                    f"and {type(controller).__name__} reads parameters or gradients, which must be "
                    "real; store it as torch.view_as_real(...), or use a policy of the step"
                )


def separate(optimizer: Optimizer) -> None:
    """Let each group have a learning rate of its own, where a tensor was shared.

    The first group keeps the tensor, because compiled and captured steps read that one; only where
    another optimizer's group has it already, this one gets a copy. The optimizer's defaults get a
    copy of its initial value, for groups that are added later.
    """
    first: dict[int, Group] = {}
    for group in optimizer.param_groups:
        lr = group["lr"]
        if not isinstance(lr, Tensor):
            continue
        is_first = first.setdefault(lr.data_ptr(), group) is group
        if not is_first or not _take(lr, optimizer):
            group["lr"] = lr = lr.clone()
            _take(lr, optimizer)
    default = optimizer.defaults.get("lr")
    if isinstance(default, Tensor) and default.data_ptr() in first:
        initial = first[default.data_ptr()].get("initial_lr", default)
        optimizer.defaults["lr"] = torch.full_like(default, float(initial))


def _take(lr: Tensor, optimizer: Optimizer) -> bool:
    """Note that `optimizer` has this tensor; return False if another one has it."""
    found = _OWNERS.get(lr)
    owner = None if found is None else found()
    if owner is None:
        _OWNERS[lr] = weakref.ref(optimizer)
    return owner in (None, optimizer)


def own(rate: float | Tensor) -> float | Tensor:
    """Return `rate`, as a copy if it is a tensor, which is written in place."""
    return rate.clone() if isinstance(rate, Tensor) else rate


def _params(group: Group) -> tuple[int, ...]:
    return tuple(map(id, group["params"]))
