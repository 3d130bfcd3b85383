"""An average of the last weights: it costs no training and needs no run length.

Update: `average <- average + (1 + g) / (t + g) * (weights - average)` after step t = 1, 2, ...,
with g = 8. Most of it comes from the last ninth of the steps so far.

Reference: Shamir and Zhang 2013, arXiv 1212.1824 (polynomial-decay averaging). DoG (Ivgi et al.
2023, arXiv 2302.12022) advises it with the same g.

Deviations from the paper: none in the formula. Buffers of floating-point numbers, such as the
statistics of BatchNorm, are averaged as the parameters are; other buffers keep their last value.

Precision: that of the weights. Half precision rounds the small moves of a long run away.

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
    """Return how far the average moves towards the weights after this step, counted from 1."""
    return (1 + _G) / (step + _G)


def polynomial_average(average: Tensor, weights: Tensor, num_averaged: Tensor | int) -> Tensor:
    """Return the next average of the last weights, as an `avg_fn` of torch's `AveragedModel`.

    Update `AveragedModel(model, avg_fn=polynomial_average, use_buffers=True)` after each step.
    With `use_buffers=True` the statistics of BatchNorm are averaged as well, without it they are
    those of the last weights and do not fit the average.

    Args:
        average: The average so far.
        weights: The weights after this step; what holds no floating-point numbers is returned.
        num_averaged: Steps before this one. The host does not wait for one on an accelerator.

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
    same = average == weights  # such as the infinities in a mask, whose average is NaN
    return torch.where(same, weights, moved)


class RunningAverage:
    """The average of a model's weights along a run.

    Args:
        model: The model that is trained.
        on: Whether to keep an average; without one, nothing below does anything.
    """

    def __init__(self, model: nn.Module, *, on: bool) -> None:
        self._model = model
        self._average = [tensor.detach().clone() for tensor in _averaged(model)] if on else None

    def after_step(self, step: int) -> None:
        """Move the average towards the weights after this step, counted from 1."""
        if self._average is None:
            return
        weights = _averaged(self._model)
        with torch.no_grad():
            if step == 1:
                torch._foreach_copy_(self._average, weights)
            else:
                torch._foreach_lerp_(self._average, weights, share(step))

    def model(self) -> nn.Module | None:
        """Return a copy of the model at the average; None if there is none."""
        if self._average is None:
            return None
        twin = copy.deepcopy(self._model)
        with torch.no_grad():
            for tensor, average in zip(_averaged(twin), self._average, strict=True):
                fixed = tensor.isinf()  # such as in a mask; the average of infinities is NaN
                tensor.copy_(torch.where(fixed, tensor, average))
        return twin

    def identity(self) -> dict[str, bool]:
        """Return what makes this another run; nothing where there is no average."""
        return {} if self._average is None else {"average": True}

    def saved(self) -> dict[str, Any]:
        """Return the average, to go on from it; nothing where there is none."""
        return {} if self._average is None else {"average": self._average}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `saved` returned."""
        if self._average is not None:
            for average, came in zip(self._average, saved["average"], strict=True):
                average.copy_(came)


def _averaged(model: nn.Module) -> list[Tensor]:
    """Return the parameters and buffers of which there is an average, as they are now."""
    return [t for t in chain(model.parameters(), model.buffers()) if _is_averaged(t)]


def _is_averaged(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
