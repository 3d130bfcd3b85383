"""An average of the last weights: it needs no extra training and no run length.

Update: `average <- average + (1 + g) / (t + g) * (weights - average)` after step t = 1, 2, ...,
with g = 8. Most of its weight is on the last ninth of the steps so far.

Reference: Shamir and Zhang 2013, arXiv 1212.1824 (polynomial-decay averaging). DoG (Ivgi et al.
2023, arXiv 2302.12022) recommends it with the same g.

Deviations from the paper: none in the formula. Buffers of floating-point numbers, such as the
statistics of BatchNorm, are averaged like the parameters; other buffers keep their last value.

Precision: that of the weights. In half precision, the small updates of a long run are lost in
rounding.

Cost per step: one pass over the weights; a copy of them in memory.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

_G = 8.0


def share(step: int) -> float:
    """Return the share by which the average moves to the weights after this step, from 1."""
    return (1 + _G) / (step + _G)


def polynomial_average(average: Tensor, weights: Tensor, num_averaged: Tensor | int) -> Tensor:
    """Return the next average of the last weights, as an `avg_fn` of torch's `AveragedModel`.

    Update `AveragedModel(model, avg_fn=polynomial_average, use_buffers=True)` after each step.
    With `use_buffers=True`, the statistics of BatchNorm are averaged as well. Without it, they are
    those of the last weights and do not fit the average.

    Args:
        average: The average so far.
        weights: The weights after this step; tensors of other than floating-point type are returned
            unchanged.
        num_averaged: Number of steps before this one. If it is on an accelerator, the host does not
            wait for it.

    Example:
        >>> model = torch.nn.Linear(1, 1)
        >>> averaged = torch.optim.swa_utils.AveragedModel(model, avg_fn=polynomial_average)
        >>> averaged.update_parameters(model)
    """
    if not _is_averaged(weights):
        return weights
    if not isinstance(num_averaged, Tensor) or num_averaged.is_cpu:
        moved = torch.lerp(average, weights, share(int(num_averaged) + 1))
    else:
        exact = torch.promote_types(weights.dtype, torch.float32)
        part = (1 + _G) / (num_averaged.to(exact) + 1 + _G)
        moved = torch.lerp(average.to(exact), weights.to(exact), part).to(weights.dtype)
    same = average == weights  # for example the infinities in a mask, whose average is NaN
    return torch.where(same, weights, moved)


class RunningAverage:
    """The average of a model's weights during a run.

    Args:
        model: The model that is trained.
        on: Whether to keep the average of the last weights.
        ema: Decay of an exponential moving average instead, in (0, 1); it begins with the weights
            after the first step.

    Without either, the methods do nothing.

    Raises:
        ValueError: `ema` is out of range, or both averages are asked for.
    """

    def __init__(self, model: nn.Module, *, on: bool, ema: float | None = None) -> None:
        if ema is not None and not 0 < ema < 1:
            raise ValueError(f"ema={ema}; a decay between 0 and 1 is needed, such as 0.9999")
        if on and ema is not None:
            raise ValueError("average and ema are two averages of the weights; choose one")
        self._model, self._ema = model, ema
        kept = on or ema is not None
        self._average = [tensor.detach().clone() for tensor in _averaged(model)] if kept else None

    def after_step(self, step: int) -> None:
        """Move the average towards the weights after this step, counted from 1."""
        if self._average is None:
            return
        weights = _averaged(self._model)
        with torch.no_grad():
            if step == 1:
                torch._foreach_copy_(self._average, weights)
            else:
                torch._foreach_lerp_(
                    self._average, weights, share(step) if self._ema is None else 1 - self._ema
                )

    def model(self) -> nn.Module | None:
        """Return a copy of the model with the averaged weights; None if there is no average."""
        if self._average is None:
            return None
        twin = copy.deepcopy(self._model)
        with torch.no_grad():
            for tensor, average in zip(_averaged(twin), self._average, strict=True):
                fixed = tensor.isinf()  # for example in a mask; the average of infinities is NaN
                tensor.copy_(torch.where(fixed, tensor, average))
        return twin

    def identity(self) -> dict[str, bool | float]:
        """Return the settings that identify this run; empty without an average."""
        if self._ema is not None:
            return {"ema": self._ema}
        return {} if self._average is None else {"average": True}

    def saved(self) -> dict[str, Any]:
        """Return the average, for a resume; empty without an average."""
        return {} if self._average is None else {"average": self._average}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Restore the average that `saved` returned."""
        if self._average is not None:
            for average, came in zip(self._average, saved["average"], strict=True):
                average.copy_(came)


def _averaged(model: nn.Module) -> list[Tensor]:
    """Return the present values of the parameters and buffers that are averaged."""
    return [t for t in chain(model.parameters(), model.buffers()) if _is_averaged(t)]


def _is_averaged(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
