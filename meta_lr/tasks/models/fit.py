"""Check that a network fits a task: image tasks and text tasks pass different arguments to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn


def refuse_other_kind(
    task: str, network: Callable[..., nn.Module], facts: tuple[str, ...], advice: str
) -> None:
    """Raise a ValueError unless `network` can be called with `facts` as its keyword arguments.

    Args:
        task: The task's name.
        network: A class of networks, or a partial of one.
        facts: Names of the arguments that the task passes.
        advice: What to choose instead.
    """
    try:
        inspect.signature(network).bind(**dict.fromkeys(facts))
    except TypeError as error:
        name = getattr(getattr(network, "func", network), "__name__", repr(network))
        raise ValueError(
            f"{task} gives its network {', '.join(facts)}, and {name}: {error}; {advice}"
        ) from error
