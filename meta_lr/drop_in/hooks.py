"""Hooks before and after an optimizer step, closures, and the attributes of a GradScaler.

With a GradScaler, a fused optimizer is called even for a step that it will skip. `found_inf` and
`grad_scale` are then set as attributes, and the optimizer unscales the gradients itself.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch.optim import Optimizer

from meta_lr.protocol import params_of

Owner = TypeVar("Owner")
Args = tuple[Any, ...]  # of a step, including the optimizer itself
Kwargs = dict[str, Any]
Call = tuple[Args, Kwargs]
Closure = Callable[[], Any]


def before_steps(
    optimizer: Optimizer, owner: Owner, act: Callable[[Owner, Args, Kwargs], Call | None]
) -> None:
    """Call a method of `owner` before each `optimizer.step`, as long as `owner` exists.

    The optimizer has only a weak reference to the owner. In a compiled step, the hook still runs in
    Python. A step inside a step (`super().step()` in a subclass) runs torch's hooks again, but not
    this one.
    """
    bind(owner, optimizer.register_step_pre_hook(_hook(optimizer, owner, act)))


def after_steps(
    optimizer: Optimizer, owner: Owner, act: Callable[[Owner, Args, Kwargs], None]
) -> None:
    """Call a method of `owner` after each `optimizer.step`, including a step in progress."""
    bind(owner, optimizer.register_step_post_hook(_hook(optimizer, owner, act)))


def replace_closure(args: Args, kwargs: Kwargs, wrap: Callable[[Closure], Closure]) -> Call | None:
    """Return the arguments of a step with `wrap(closure)` as its closure; None without one."""
    if kwargs.get("closure") is not None:
        return args, {**kwargs, "closure": wrap(kwargs["closure"])}
    if len(args) > 1 and args[1] is not None:
        return (args[0], wrap(args[1]), *args[2:]), kwargs
    return None


def will_skip(optimizer: Optimizer) -> bool:
    """Return whether the next step will be skipped because of an overflow."""
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and bool(found_inf.item())


def unscale(optimizer: Optimizer) -> None:
    """Divide the gradients by the loss scale now instead of inside the fused step."""
    scale = getattr(optimizer, "grad_scale", None)
    if scale is None:
        return
    with torch.no_grad():
        for p in params_of(optimizer):
            if p.grad is not None:
                p.grad.div_(scale.to(p.grad.device))
    vars(optimizer)["grad_scale"] = None


def _hook(optimizer: Optimizer, owner: Owner, act: Callable[[Owner, Args, Kwargs], Any]) -> Any:
    ref, nests = weakref.ref(owner), _may_nest(type(optimizer))

    def hook(optimizer: Optimizer, args: Args, kwargs: Kwargs) -> Any:
        owner = ref()
        if owner is None or (nests and _is_inner(optimizer)):
            return None
        return act(owner, args, kwargs)

    return torch.compiler.disable(hook)


class Removable(Protocol):
    """One hook, or several."""

    def remove(self) -> None:
        """Remove the hook or hooks."""
        ...


def bind(owner: Any, handle: Removable) -> None:
    """Remove a hook when `owner` is deleted."""
    weakref.finalize(owner, handle.remove).atexit = False


def _may_nest(kind: type[Optimizer]) -> bool:
    steps = [vars(base)["step"] for base in kind.__mro__ if "step" in vars(base)]
    return len({inspect.unwrap(step) for step in steps} - {Optimizer.step}) > 1


def _is_inner(optimizer: Optimizer) -> bool:
    # Inspect the call stack: a counter would be wrong after an interrupted step.
    hooked_step, frame, depth = type(optimizer).step.__code__, sys._getframe(), 0
    while frame is not None:
        if frame.f_code is hooked_step and frame.f_locals.get("self") is optimizer:
            depth += 1
        frame = frame.f_back
    return depth > 1
