"""The errors of `ControlledLR`, each in one line: what came, what is needed, what to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch.optim import LBFGS, Optimizer

from meta_lr import checkpoint, protocol
from meta_lr.optim import rules
from meta_lr.optim.groups import refuse_complex
from meta_lr.processes import num_ranks
from meta_lr.protocol import Controller, Need

_EXPERIMENTS = Need.META | Need.TRIALS


def watched(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer that supports step hooks: `optimizer`, or else the one it wraps.

    A wrapper that never ran `Optimizer.__init__`, such as accelerate's, does not support hooks.

    Raises:
        TypeError: The argument is no optimizer, or neither it nor the wrapped one supports hooks,
            or the optimizer is LBFGS.
    """
    if _is_controller(optimizer) or isinstance(optimizer, str | os.PathLike):
        raise TypeError(
            f"the first argument is {_short(optimizer)}, which is no optimizer; call "
            "ControlledLR(optimizer, controller)"
        )
    name, found = type(optimizer).__name__, optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name} is not an Optimizer; pass a torch.optim.Optimizer first")
    while isinstance(found, Optimizer) and not hasattr(found, "_optimizer_step_pre_hooks"):
        found = getattr(found, "optimizer", None)
    if not isinstance(found, Optimizer):
        raise TypeError(
            f"{name} has no step hooks, and no attribute `optimizer` with an optimizer that has "
            "them; build ControlledLR on the optimizer that it wraps"
        )
    if isinstance(found, LBFGS):
        raise TypeError(
            "LBFGS evaluates its closure many times per step, so a step has no one loss; "
            "use another optimizer"
        )
    return found


def controller(given: Controller | str | os.PathLike[str]) -> Controller:
    """Return the given controller, or the checkpoint with the given name."""
    if isinstance(given, str | os.PathLike):
        return checkpoint.load_pretrained(given)
    if _is_controller(given):
        return given
    raise TypeError(
        f"the controller is {_short(given)}; pass a policy such as meta_lr.Cosine(0.1), another "
        'controller, or the name of a checkpoint such as "meta-lr-digits"'
    )


def length(name: str, steps: float) -> int:
    """Return a number of steps as an int, if it is whole and not negative."""
    try:
        if (whole := int(steps)) == steps and whole >= 0:
            return whole
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(
        f"{name} is {_short(steps)}; pass a whole number of optimizer steps, or 0 if it is unknown"
    )


def unserved(optimizer: Optimizer, controller: Controller, served: Need) -> None:
    """Raise a ValueError if the controller needs more than is given, or another optimizer."""
    protocol.refuse_unserved(controller, served)
    if controller.needs & _EXPERIMENTS and num_ranks() > 1:
        raise ValueError(
            f"{type(controller).__name__} makes experiments, which differ between the "
            f"{num_ranks()} ranks of the process group; run it in one process"
        )
    rules.refuse_other_family(controller, optimizer)
    refuse_complex(controller, optimizer)


def state(
    state: Mapping[str, Any], version: int, controller: Controller, optimizer: Optimizer
) -> None:
    """Raise a ValueError if a state dict belongs to another version, controller or optimizer."""
    if state.get("format") != version:
        raise ValueError(
            f"the state has format {state.get('format')}, but this version reads "
            f"{version}; it is from a newer meta_lr, or from another scheduler"
        )
    if state["controller"] != repr(controller):
        raise ValueError(
            f"the state was saved with {state['controller']}, but this scheduler has "
            f"{controller!r}; build it with the controller that was saved"
        )
    if len(state["lrs"]) != len(optimizer.param_groups):
        raise ValueError(
            f"the state was saved with {len(state['lrs'])} parameter groups, but the "
            f"optimizer has {len(optimizer.param_groups)}; add the groups before loading"
        )


def _is_controller(value: object) -> bool:
    named = hasattr(value, "needs") and hasattr(value, "init") and callable(value)
    return named and not isinstance(value, type)


def _short(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value)
    brief = len(text) <= 60 and "\n" not in text and " at 0x" not in text
    return text if brief else f"of type {type(value).__name__}"
