"""The inputs of a scheduler network: named features of the training history, of order one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from meta_lr.methods.features.arithmetic import FLOATS, TENSORS, Arithmetic, Columns, Number
from meta_lr.methods.features.feature import Feature, Moment, Values
from meta_lr.methods.features.loss import LOSS_FEATURES
from meta_lr.methods.features.signals import SIGNAL_FEATURES
from meta_lr.optim.signals import Signals
from meta_lr.protocol import Need
from meta_lr.vectors import Tensors

Part = tuple[Callable[..., tuple[Number, Values]], slice]
Read = Callable[..., Any]  # (loss, step, total_steps, state, signals=None) -> features

FEATURES: dict[str, Feature] = LOSS_FEATURES | SIGNAL_FEATURES


@dataclass(frozen=True)
class Features:
    """Named features of the training history, a vector x of shape (inputs,) per step.

    ================= ====================================================== =================
    name              meaning, each of shape ()                              unit
    ================= ====================================================== =================
    `loss`            L, the batch's mean loss: the paper's only feature     nats
    `log_loss`        ln L                                                   e-folds from 1 nat
    `relative_loss`   ln(L / mean of the run's first 10 losses)              e-folds
    `level`           the same for L smoothed over 10 steps                  e-folds
    `normalised_loss` (L - m) / d, running mean m and deviation d            deviations, |x| <= 5
    `noise`           log10(deviation of ln L over 10 steps / 0.1)           decades, >= -2
    `change_10`       s - s', with s = ln of L smoothed over 10 steps, and   e-folds
                      s' = s smoothed again: the change in 10 steps
    `change_3`        the same over 3 steps                                  e-folds
    `change_30`       the same over 30 steps                                 e-folds
    `change_100`      the same over 100 steps                                e-folds
    `change_1000`     the same over 1000 steps                               e-folds
    `change_share`    the same over a twentieth of the run, at least 10      e-folds
    `progress`        step / total_steps, at most 1                          runs
    `remaining`       square root of 1 - progress                            at most 1
    `opening`         step / 20, at most 1                                   at most 1
    `run_length`      log10(total_steps / 1000)                              decades
    `alignment_5`     cosine of the gradient and the last step down,         -1 to 1
                      smoothed over 5 steps from 0
    `alignment_30`    the same over 30 steps                                 -1 to 1
    `alignment_share` the same over a twentieth of the run, at least 10      -1 to 1
    `gradient_trend`  ln(G smoothed over 10 steps / first G), G being the    e-folds
                      gradient's size
    `relative_update` log10(size of the last step / 0.001), 0 before the     decades
                      first step
    `spread`          log10(d / 0.1), from -2 to 4; d is the size of the     decades
                      weights minus their mean, smoothed over a twentieth
                      of the run, at least 10 steps
    ================= ====================================================== =================

    The last six are computed from `meta_lr.optim.signals`, which measures each tensor in units of
    its own norm.

    Update:
        smoothing over n steps: y <- y + (x - y) / W, W <- W n / (n + 1) + 1, from y = W = 0. This
        is the mean with weights (n / (n + 1))^age, without a bias at the start. On
        L = exp(-t / T), `change_n` is -n / T. m and d are smoothed over 100 steps; d is at least
        m / 1000.
    Reference:
        normalisation with clipping: the learned optimizers of Metz et al. (2022), arXiv
        2211.09760; running variance: West (1979).
    Deviations:
        Shu et al. (2020) use only `loss`; all other features are additions.
    Cost:
        a few operations on numbers per feature.

    All features except `loss` and `log_loss` are invariant to a constant factor on the losses and
    gradients. The features of the signals are also invariant to a rescaling of each weight tensor
    that does not change the function of the network. The optimizer affects the features only
    through its steps. In logarithms, a loss below 1e-8 is replaced with 1e-8. Every feature is
    differentiable in the present loss and, through its state, in all earlier losses.

    Args:
        names: The names of the features, in the order in x.

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
        """The number of features: the size of x."""
        return len(self.names)

    @property
    def needs(self) -> Need:
        """The loss; for some features also the run length, or parameters and gradients."""
        needs = Need.LOSS
        for name in self.names:
            needs |= FEATURES[name].needs
        return needs

    @property
    def raw(self) -> bool:
        """Whether x is only the unchanged loss."""
        return self.names == ("loss",)

    def init(self) -> Tensors:
        """Return the state before the first step: one float64 tensor of zeros, or ()."""
        size = sum(FEATURES[name].remembers for name in self.names)
        return (torch.zeros(size, dtype=torch.float64),) if size else ()

    def __call__(
        self,
        loss: Tensor,
        state: Tensors,
        *,
        step: int,
        total_steps: int = 0,
        signals: Signals | None = None,
    ) -> tuple[Tensor, Tensors]:
        """Return x (inputs,) and the next state; differentiable, usable in `torch.func.vmap`.

        For parallel runs, with losses (runs,) and a state (runs, numbers), x is (runs, inputs).

        Args:
            loss: Loss of the present step, () or (runs,).
            state: The state from `init` or from the step before.
            step: Optimizer steps taken so far, from 0.
            total_steps: Length of the run; read only if `needs` includes HORIZON.
            signals: Signals of the step, each () or (runs,); read only if `needs` includes GRADS.
        """
        if self.raw:
            return loss.unsqueeze(-1), ()
        loss = loss.to(torch.float64)
        values = state[0].unbind(-1) if state else ()
        x, values = _update(self._parts, TENSORS, Moment(loss, step, total_steps, signals), values)
        x = [v if isinstance(v, Tensor) else torch.full_like(loss, v) for v in x]
        return torch.stack(x, -1), (torch.stack(values, -1),) if state else ()

    def side_by_side(
        self, columns: Columns, now: Moment, state: Tensors, copies: int
    ) -> tuple[Tensor, Tensors]:
        """Return x (copies, inputs) of parallel copies, and the next state.

        Args:
            columns: The arithmetic.
            now: The inputs of the step; each number is (copies,).
            state: A tensor (copies, numbers), or ().
            copies: Number of copies.
        """
        values = columns.apart(state[0]) if state else ()
        x, values = _update(self._parts, columns.ops, now, values)
        kept = (columns.together(values, copies),) if state else ()
        return columns.together(x, copies), kept

    def fold(self) -> Read:
        """Return the same function for plain numbers; it updates the state in place.

        It returns a number if there is one feature, else a list.
        """
        parts, single = self._parts, self.inputs == 1
        known, array = None, np.empty(0)  # the state of the last call, and a view of it

        def read(
            loss: float,
            step: int,
            total_steps: int,
            state: Tensors,
            signals: Signals | None = None,
        ) -> Any:
            nonlocal known, array
            if state and state[0] is not known:
                known = state[0]
                array = known.numpy()
            now = Moment(loss, step, total_steps, signals)
            x, values = _update(parts, FLOATS, now, array.tolist())
            array[:] = values
            return x[0] if single else x

        return read

    @property
    def _parts(self) -> list[Part]:
        """Return each feature's update, and its place in the common memory."""
        parts, start = list[Part](), 0
        for feature in (FEATURES[name] for name in self.names):
            end = start + feature.remembers
            parts.append((feature.update, slice(start, end)))
            start = end
        return parts


def _update(
    parts: Sequence[Part], ops: Arithmetic, now: Moment, values: Values
) -> tuple[list[Number], list[Number]]:
    """Return each feature's value, and the memory of all of them."""
    x, kept = [], []
    for update, place in parts:
        value, new = update(ops, now, values[place])
        x.append(value)
        kept.extend(new)
    return x, kept
