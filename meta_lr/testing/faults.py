"""Checks of a controller and its results: each function returns a fault, or "".

A fault is a text: what was found, and what to do.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any

from torch import Tensor

from meta_lr.protocol import Average, Need, StepView

_PLAIN = (type(None), bool, int, float, str)
_STATE = "make it a NamedTuple of None, numbers, strings, tensors and plain tuples of these"


def of_form(controller: Any) -> str:
    """Check the members that every controller must have."""
    if isinstance(controller, type):
        return f"a class came; pass an instance, such as {controller.__name__}(...)"
    return (
        _of_method(controller, "init", (), "the state before the first step")
        or _of_method(controller, "__call__", ("view", "state"), "(rate, state)")
        or _of_needs(getattr(controller, "needs", None))
    )


def of_state(state: Any, kind: type | None = None) -> str:
    """Check a state; `kind` is the type of the previous state, if there was one."""
    if kind is not None and type(state) is not kind:
        return f"the state is {shown(state)}; return a {kind.__name__}, as init() does"
    if not isinstance(state, tuple) or not hasattr(state, "_fields"):
        return f"the state is {shown(state)}; {_STATE}"
    for path, item in _items(state):
        if not isinstance(item, Tensor) and type(item) not in _PLAIN:
            return f"{path} of the state is {shown(item)}; {_STATE}"
    return ""


def of_rate(rate: object) -> str:
    """Check a learning rate."""
    value = rate.rate if isinstance(rate, Average) else rate
    if isinstance(value, Tensor) and value.shape == () and not value.is_complex():
        value = value.item()
    if not isinstance(value, Real):
        needed = "a number, a tensor of shape () or an Average"
        return f"the learning rate is {shown(value)}; return {needed}"
    if not 0.0 <= float(value) < math.inf:
        return f"the learning rate is {float(value)}; return one that is finite and not negative"
    return ""


def of_keeping(view: StepView, needs: Need, state: Any) -> str:
    """Check that a state holds no live tensors of the run, because they change after the step."""
    live: dict[int, str] = {}
    if needs & Need.PARAMS:
        live |= {_place(p): "parameter" for p in view.params}
        live |= {_place(p.grad): "gradient" for p in view.params if p.grad is not None}
    if needs & Need.GRADS:
        live |= {_place(g): "gradient" for g in view.grads}
    for path, item in _items(state):
        if isinstance(item, Tensor) and item.numel() and _place(item) in live:
            return f"{path} of the state is a live {live[_place(item)]}; keep a clone() of it"
    return ""


def shown(value: object) -> str:
    """Return a short text for any value."""
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return repr(value)
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"a {dtype} tensor of shape {tuple(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _of_method(controller: Any, name: str, args: tuple[str, ...], returned: str) -> str:
    method, call = getattr(controller, name, None), f"{name}({', '.join(args)})"
    if not callable(method):
        return f"it has no method {name}; add one that is called as {call} and returns {returned}"
    if not _takes(method, args):
        return f"it has {name}{inspect.signature(method)}; let it be called as {call}"
    return ""


def _of_needs(needs: object) -> str:
    if needs is None:
        return "it has no needs; add a property that returns what it reads, such as Need.LOSS"
    if inspect.isroutine(needs):
        return "its needs is a method; put @property above it"
    if not isinstance(needs, Need):
        some = "Need.NOTHING, Need.LOSS or Need.LOSS | Need.GRADS"
        return f"its needs is {shown(needs)}; return a Need, such as {some}"
    return ""


def _takes(method: Callable[..., object], args: tuple[str, ...]) -> bool:
    try:
        inspect.signature(method).bind(*args)
    except TypeError:
        return False
    except ValueError:  # built-in functions may have no signature
        pass
    return True


def _items(state: Any) -> Iterator[tuple[str, object]]:
    """Yield the parts of a state, each with its position in the state."""
    for name, value in state._asdict().items():
        yield from _parts(name, value)


def _parts(path: str, value: object) -> Iterator[tuple[str, object]]:
    if type(value) is tuple:
        for index, item in enumerate(value):
            yield from _parts(f"{path}[{index}]", item)
    else:
        yield path, value


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
