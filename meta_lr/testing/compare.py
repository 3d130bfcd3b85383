"""Bit-for-bit comparison of nested containers of tensors and plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor


def leaves(value: object) -> dict[str, object]:
    """Return the leaves of nested containers by dotted name; equal leaves are bit-identical."""
    return dict(_leaves(value, ""))


def difference(expected: Mapping[str, object], found: Mapping[str, object]) -> str:
    """Return the name of the first leaf that differs between two sets; "" if none differs."""
    names = [*expected, *(name for name in found if name not in expected)]
    return next((name for name in names if expected.get(name) != found.get(name)), "")


def first_change(expected: Sequence[float], found: Sequence[float]) -> str:
    """Return the first difference between two lists of learning rates; "" if they are equal."""
    for index, (a, b) in enumerate(zip(expected, found, strict=False)):
        if a != b:
            return f"learning rate {index} is {b}, and {a} was expected"
    if len(expected) != len(found):
        return f"there are {len(found)} learning rates, and {len(expected)} were expected"
    return ""


def _leaves(value: object, name: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        yield name, (type(value).__name__, len(value))
        for index, item in enumerate(value):
            yield from _leaves(item, f"{name}.{index}")
    elif isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        yield name, (value.dtype, value.shape, content.numpy().tobytes())
    else:
        yield name, repr(value)  # distinguishes 0.0 from -0.0; nan equals nan
