"""Asynchronous copies: an accelerator computes numbers, and the host reads them one step later."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

_COPIES = WeakIdKeyDictionary()  # numbers on a device -> their copy on the host, with its event


def is_near(numbers: Tensor) -> bool:
    """Return whether these numbers can be read without waiting for a device."""
    return numbers.device.type == "cpu"


def send(numbers: Tensor) -> Tensor:
    """Start to copy numbers from an accelerator to the host, and return them."""
    copy = numbers.to("cpu", non_blocking=True)  # torch uses pinned memory for it
    done = torch.Event(numbers.device)
    done.record(torch.accelerator.current_stream(numbers.device))
    _COPIES[numbers] = copy, done
    return numbers


def sent(number: Tensor) -> Tensor:
    """Return a number (); if it is on an accelerator, its copy to the host has begun."""
    return number if is_near(number) else send(number)


def receive(numbers: Tensor | Sequence[float]) -> Sequence[float]:
    """Return the numbers on the host; this waits only for the copy that `send` started.

    After a resume there is no such copy, so the first call waits for the device.
    """
    if not isinstance(numbers, Tensor):
        return numbers
    if numbers not in _COPIES:
        return numbers.tolist()
    copy, done = _COPIES[numbers]
    done.synchronize()
    return copy.tolist()
