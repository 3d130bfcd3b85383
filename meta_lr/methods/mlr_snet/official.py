"""The schedulers that the authors of MLR-SNet published: three pickles, read only as data."""

from __future__ import annotations

import pickle
from pathlib import Path
from reprlib import repr as short
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from meta_lr.methods.networks.lstm import LSTM
from meta_lr.vectors import Tensors

CELL = LSTM(hidden=50, gates="ifgo", forget_offset=0.0)
"""The cell of the authors' meta-test code. The cell of their meta-training, `LSTM()`, is another
one. Files of both have the same keys and shapes, so a file does not show which cell it is for."""

_KEYS = {  # our name of each weight -> their name
    "x_down": "layer1.fc_i2h.0",
    "x_up": "layer1.fc_i2h.2",
    "h_down": "layer1.fc_h2h.0",
    "h_up": "layer1.fc_h2h.2",
    "head": "layer3",
}


def read(path: Path) -> Tensors:
    """Return the weights in one of the authors' files, in the order of `CELL.names`.

    Only tensors are unpickled. They are loaded to the CPU, also if they were saved on a GPU.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file is damaged, holds other objects than tensors, or another network.
    """
    found = _load(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not weights by name; {_NEEDED}")
    wanted = [_key(name) for name in CELL.names]
    strange = sorted(str(key) for key in set(found) - set(wanted))
    if strange:
        raise ValueError(f"{path} holds another network: it has {short(strange[0])}; {_NEEDED}")
    return tuple(
        _weight(path, key, found.get(key), shape)
        for key, shape in zip(wanted, CELL.shapes, strict=True)
    )


def settled(weights: Tensors, loss: float, *, steps: int = 60) -> float:
    """Return the output p of the cell after `steps` steps at a constant loss, from zero memory."""
    cell, memory, p = CELL.fold(weights), CELL.memory(), 0.0
    for _ in range(steps):
        p = cell(loss, memory)  # its memory is updated in place
    return p


_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NEEDED = "needed is one of the authors' mlr_snet files"


def _key(name: str) -> str:
    part, _, kind = name.partition(".")
    return f"{_KEYS[part]}.{kind}"


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise ValueError(
                f"{path} is damaged, or holds more than tensors, and such a pickle is not read: it "
                f"may run code; {_NEEDED}"
            ) from None
        except Exception as error:  # a broken pickle can raise errors of many kinds
            reason = shorten(str(error), 80, placeholder=" ...") or type(error).__name__
            raise ValueError(f"{path} is damaged or cut short ({reason}); copy it again") from error


def _weight(path: Path, key: str, found: Any, shape: tuple[int, ...]) -> Tensor:
    came = _shape(found)
    if came != shape:
        raise ValueError(f"{path} holds another network: {key} is {came}, not {shape}; {_NEEDED}")
    single = found.detach().to(torch.float32) if found.dtype in _PRECISIONS else None
    if single is None or not bool(single.isfinite().all()):
        raise ValueError(f"{path} is damaged: {key} holds what is no finite number; copy it again")
    return single.contiguous().clone()


def _shape(found: Any) -> tuple[int, ...] | str:
    """Return the shape of a tensor, or a text that says why it cannot be a weight."""
    if not isinstance(found, Tensor):
        return "missing"
    dense = found.layout is torch.strided and not found.is_nested
    return tuple(found.shape) if dense and found.device.type == "cpu" else "not a dense tensor"
