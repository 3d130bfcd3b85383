"""The parameter groups of an optimizer: new groups, and the scale of each group."""

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
_OWNERS = WeakIdKeyDictionary()  # learning rates that are tensors -> the optimizer that owns each


class Groups:
    """The groups of an optimizer, each with its own learning rate and scale.

    A group is identified by its parameters. The fields that determine its scale (`initial_lr`,
    `lr_scale`) are read when the group is new. They are kept when `load_state_dict` replaces the
    group's dictionary.

    Args:
        optimizer: The optimizer.
        check: Called whenever there are new groups; it may refuse them.
    """

    def __init__(self, optimizer: Optimizer, check: Callable[[], None]) -> None:
        self._optimizer, self._check = optimizer, check
        self._seen: list[Group] = []
        self._scales: list[float] = []

    def scales(self) -> list[float]:
        """Return the factor of the learning rate in each group; a replaced group is read again."""
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
    """Give each group its own learning-rate tensor, if groups share one.

    The first group keeps the tensor, because compiled and captured steps read it. It gets a copy
    only if a group of another optimizer already has the tensor. The optimizer's defaults get a copy
    of the initial value, for groups that are added later.
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
    """Note that `optimizer` owns this tensor; return False if another optimizer owns it."""
    found = _OWNERS.get(lr)
    owner = None if found is None else found()
    if owner is None:
        _OWNERS[lr] = weakref.ref(optimizer)
    return owner in (None, optimizer)


def own(rate: float | Tensor) -> float | Tensor:
    """Return `rate`; a tensor is copied, because tensors are written in place."""
    return rate.clone() if isinstance(rate, Tensor) else rate


def _params(group: Group) -> tuple[int, ...]:
    return tuple(map(id, group["params"]))
