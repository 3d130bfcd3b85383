"""What a network reads of the training history: named numbers, each of about order one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from meta_lr.protocol import Need
from meta_lr.schedulers.arithmetic import FLOATS, TENSORS, Arithmetic, Number
from meta_lr.schedulers.network import Tensors

FIRST = 10  # losses that count as the first ones
WINDOW = 100  # steps that the running mean and deviation look back on
SCALES = (10, 100, 1000)  # steps, of the changes
_LEAST = 1e-8  # a loss below it counts as this where its logarithm is taken
_QUIET = 1e-3  # a deviation below this share of the mean is no noise
_FAR = 5.0  # deviations beyond it count as this many


class Moment(NamedTuple):
    """What a feature is made from, besides what it remembers."""

    loss: Number
    step: int
    total_steps: int  # 0 where no feature of the set needs it


Values = Sequence[Number]  # what a feature remembers
Read = Callable[[float, int, int, Tensors], Any]  # (loss, step, total_steps, state) -> features


class Feature(NamedTuple):
    """One number per step, of shape (), and what it remembers."""

    meaning: str  # one line
    unit: str
    update: Callable[[Arithmetic, Moment, Values], tuple[Number, Values]]
    remembers: int = 0  # numbers, all 0 before the first step
    needs: Need = Need.LOSS


def _loss(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    return now.loss, values


def _log_loss(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    return ops.log(ops.clip(now.loss, _LEAST, math.inf)), values


def _relative_loss(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    count, first = values
    first = first + ops.clip(FIRST - count, 0, 1) * (now.loss - first) / (count + 1)
    count = ops.clip(count + 1, 0, FIRST)
    level, start = (ops.log(ops.clip(x, _LEAST, math.inf)) for x in (now.loss, first))
    return level - start, (count, first)


def _normalised_loss(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    weight, mean, variance = values
    weight = weight * (WINDOW / (WINDOW + 1)) + 1
    gap = now.loss - mean
    mean = mean + gap / weight
    variance = (1 - 1 / weight) * (variance + gap * gap / weight)  # West (1979)
    quiet = _QUIET * mean
    deviation = ops.sqrt(variance + quiet * quiet + _LEAST**2)
    return ops.clip((now.loss - mean) / deviation, -_FAR, _FAR), (weight, mean, variance)


def _change(steps: int) -> Feature:
    def update(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
        weight, smooth, past = values
        weight = weight * (steps / (steps + 1)) + 1
        smooth = smooth + (now.loss - smooth) / weight
        level = ops.log(ops.clip(smooth, _LEAST, math.inf))
        past = past + (level - past) / weight
        return level - past, (weight, smooth, past)

    meaning = f"change of the smoothed loss over the last {steps} steps, which it is smoothed over"
    return Feature(meaning, "e-folds", update, 3)


def _progress(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    return min(now.step / now.total_steps, 1.0), values


def _run_length(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    return math.log10(now.total_steps / 1000), values


FEATURES: dict[str, Feature] = {
    "loss": Feature("the batch's mean loss, as it is", "nats", _loss),
    "log_loss": Feature("logarithm of the loss", "e-folds from 1 nat", _log_loss),
    "relative_loss": Feature(
        f"logarithm of the loss over the mean of the run's first {FIRST}",
        "e-folds",
        _relative_loss,
        2,
    ),
    "normalised_loss": Feature(
        f"the loss less its running mean, over its running deviation, both over {WINDOW} steps",
        f"deviations, cut at {_FAR:g}",
        _normalised_loss,
        3,
    ),
    **{f"change_{steps}": _change(steps) for steps in SCALES},
    "progress": Feature(
        "fraction of the run that is done", "runs, at most 1", _progress, needs=Need.HORIZON
    ),
    "run_length": Feature(
        "logarithm of the run's length", "decades from 1000 steps", _run_length, needs=Need.HORIZON
    ),
}


@dataclass(frozen=True)
class Features:
    """Named features of the training history, a vector x of shape (inputs,) per step.

    ================= ====================================================== =================
    name              meaning, each of shape ()                              unit
    ================= ====================================================== =================
    `loss`            L, the batch's mean loss: the paper's only one         nats
    `log_loss`        ln L                                                   e-folds from 1 nat
    `relative_loss`   ln(L / mean of the run's first 10 losses)              e-folds
    `normalised_loss` (L - m) / d, running mean m and deviation d            deviations, |x| <= 5
    `change_10`       s - s', with s = ln of L smoothed over 10 steps, s'    e-folds
                      the same smoothed again: the change in 10 steps
    `change_100`      the same over 100 steps                                e-folds
    `change_1000`     the same over 1000 steps                               e-folds
    `progress`        step / total_steps, at most 1                          runs
    `run_length`      log10(total_steps / 1000)                              decades
    ================= ====================================================== =================

    Update:
        smoothing over n steps: y <- y + (x - y) / W, W <- W n / (n + 1) + 1, from y = W = 0: the
        mean with weights (n / (n + 1))^age, free of a bias at the start. On L = exp(-t / T),
        `change_n` is -n / T. m and d are smoothed over 100 steps; d is at least m / 1000.
    Reference:
        of the normaliser with its cut: the learned optimizers of Metz et al. (2022), arXiv
        2211.09760; of the running variance: West (1979).
    Deviations:
        all but `loss` go beyond Shu et al. (2020), who read the raw loss alone.
    Cost:
        a few operations on numbers per feature.

    All but `loss`, `log_loss`, `progress` and `run_length` stay as they are when the losses are
    multiplied by a constant. Logarithms take a loss below 1e-8 as 1e-8. Every feature is
    differentiable in the present loss and, through its state, in all losses before.

    Args:
        names: Which, in the order in x.

    >>> features = Features(("relative_loss", "progress"))
    >>> x, state = features(torch.tensor(2.0), features.init(), step=5, total_steps=20)
    >>> x
    tensor([0.0000, 0.2500], dtype=torch.float64)
    """

    names: tuple[str, ...] = ("loss",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # configurations give lists
        strange = [name for name in self.names if name not in FEATURES]
        if strange or not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(
                f"Features got names={list(self.names)}; it takes at least one, "
                f"each once, of {', '.join(FEATURES)}"
            )

    @property
    def inputs(self) -> int:
        """How many: the size of x."""
        return len(self.names)

    @property
    def needs(self) -> Need:
        """The loss; the length of the run for `progress` and `run_length`."""
        needs = Need.LOSS
        for feature in self._parts:
            needs |= feature.needs
        return needs

    @property
    def raw(self) -> bool:
        """Whether x is the loss alone, as it is."""
        return self.names == ("loss",)

    def init(self) -> Tensors:
        """Return the state before the first step: one tensor of zeros, float64, or none."""
        size = sum(feature.remembers for feature in self._parts)
        return (torch.zeros(size, dtype=torch.float64),) if size else ()

    def __call__(
        self, loss: Tensor, state: Tensors, *, step: int, total_steps: int = 0
    ) -> tuple[Tensor, Tensors]:
        """Return x (inputs,) and the next state; differentiable, and fit for `torch.func.vmap`.

        Runs side by side: with losses (runs,) and a state (runs, numbers), x is (runs, inputs).

        Args:
            loss: () of the present step, or (runs,).
            state: As `init` or the step before gave it.
            step: Optimizer steps taken so far, from 0.
            total_steps: Length of the run; only read where `needs` says HORIZON.
        """
        if self.raw:
            return loss.unsqueeze(-1), ()
        loss = loss.to(torch.float64)
        values = state[0].unbind(-1) if state else ()
        x, values = _update(self._parts, TENSORS, Moment(loss, step, total_steps), values)
        x = [v if isinstance(v, Tensor) else torch.full_like(loss, v) for v in x]
        return torch.stack(x, -1), (torch.stack(values, -1),) if state else ()

    def fold(self) -> Read:
        """Return the same function for plain numbers; it updates the state in place.

        It gives a number where there is one feature, else a list.
        """
        parts, single = self._parts, self.inputs == 1
        known, array = None, np.empty(0)  # the state of the last call, and a view of it

        def read(loss: float, step: int, total_steps: int, state: Tensors) -> Any:
            nonlocal known, array
            if state and state[0] is not known:
                known = state[0]
                array = known.numpy()
            x, values = _update(parts, FLOATS, Moment(loss, step, total_steps), array.tolist())
            array[:] = values
            return x[0] if single else x

        return read

    @property
    def _parts(self) -> list[Feature]:
        return [FEATURES[name] for name in self.names]


def _update(
    parts: Sequence[Feature], ops: Arithmetic, now: Moment, values: Values
) -> tuple[list[Number], list[Number]]:
    """Return each feature, and what all of them remember."""
    x, kept, start = [], [], 0
    for feature in parts:
        value, new = feature.update(ops, now, values[start : start + feature.remembers])
        start += feature.remembers
        x.append(value)
        kept.extend(new)
    return x, kept
