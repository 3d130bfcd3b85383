"""The scale of a learning rate, found along the run: it grows slowly, and falls at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from meta_lr.schedulers.arithmetic import Arithmetic, Number
from meta_lr.schedulers.feature import Moment
from meta_lr.schedulers.network import is_number

_LEAST, _LARGEST = 1e-12, 1e12  # of sizes whose logarithm or ratio is taken
_WORST = 50.0  # logarithm of a loss that is not finite
_SMOOTH = 0.1  # share of a new loss in the smoothed one
_LOWEST, _HIGHEST = -30.0, 20.0  # logarithms of the scale


class Scale(NamedTuple):
    """What the integrator remembers, each number of shape () or (copies,)."""

    scale: Number  # logarithm of the learning rate before annealing
    cap: Number  # largest value of it
    hold: Number  # steps until a retreat is possible again, and the cap rises
    first: Number  # logarithm of the first loss
    level: Number  # smoothed logarithm of the loss
    variance: Number  # of the logarithm of the loss around it
    best: Number  # least level so far
    size: Number  # norm of the last update per unit of learning rate
    lr: Number  # of the last step
    lr_before: Number  # of the step before
    num_retreats: Number
    num_clamped: Number


@dataclass(frozen=True)
class Integrator:
    """Adds up what a network says, within bounds that do not depend on the network.

    Update:
        s_0: the first update is `start / sqrt(T)` of the norm of the weights;
        s <- min(s + kappa tanh(increment), cap);  kappa = min(most, ln 10 / (decade T));
        lr = (1 - t / T) exp(s + tanh(direct)), at most `clamp` of the weights' norm per step.
        Retreat: where the smoothed logarithm of the loss is above its best by
        max(margin, 3 deviations), s falls by ln 2 and is capped there; the cap waits for
        `hold T` steps, then rises by kappa / 2 per step. Where the loss is above three times the
        first one, s falls by ln 4 in each step.
    Reference:
        none
    Cost:
        a few operations on numbers

    Args:
        start: Norm of the first update over that of the weights, times sqrt(T).
        decade: Share of the run in which the learning rate can grow tenfold.
        most: Largest growth per step, e-folds.
        clamp: Largest norm of an update over that of the weights.
        margin: Least rise of the smoothed loss that counts as a deterioration, e-folds.
        hold: Share of the run for which a retreat holds.
    """

    start: float = 0.03
    decade: float = 0.08
    most: float = 0.3
    clamp: float = 0.15
    margin: float = 0.25
    hold: float = 0.03

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not is_number(value) or value <= 0:
                raise ValueError(f"Integrator got {name}={value!r}; a positive number is needed")

    def begin(
        self, ops: Arithmetic, loss: Number, weights: Number, size: Number, total_steps: int
    ) -> tuple[Number, Scale]:
        """Return the first learning rate and the state.

        Args:
            ops: For numbers or tensors.
            loss: Of the first step.
            weights: Norm of the weights.
            size: Norm of the optimizer's first update per unit of learning rate.
            total_steps: Length of the run.
        """
        size, weights = (ops.clip(x, _LEAST, _LARGEST) for x in (size, weights))
        level, zero = _log_loss(ops, loss), 0.0 * size
        scale = ops.log(weights) - ops.log(size) + math.log(self.start / math.sqrt(total_steps))
        lr = ops.exp(scale)
        return lr, Scale(
            scale, zero + _HIGHEST, zero, level, level, zero, level, size, lr, lr, zero, zero
        )

    def step(
        self, ops: Arithmetic, at: Scale, last: Moment, direct: Number, increment: Number
    ) -> tuple[Number, Scale]:
        """Return the learning rate of the step after `last`, and the next state."""
        assert last.signals is not None
        step, total_steps = last.step + 1, last.total_steps
        kappa = min(self.most, math.log(10) / (self.decade * total_steps))
        log_loss = _log_loss(ops, last.loss)
        level = at.level + _SMOOTH * (log_loss - at.level)
        variance = at.variance + _SMOOTH * ((log_loss - level) ** 2 - at.variance)
        best = ops.least(at.best, level)
        scale = at.scale + kappa * ops.tanh(increment)
        bar = ops.clip(3.0 * ops.sqrt(variance), self.margin, math.inf)
        worse = level - best - bar if step > 5 else 0.0 * level
        worse = ops.pick(0.5 - at.hold, worse, 0.0 * worse)  # not while a retreat holds
        cap = ops.pick(worse, scale - math.log(2), at.cap + ops.pick(0.5 - at.hold, kappa / 2, 0.0))
        hold = ops.pick(
            worse,
            0.0 * at.hold + max(8.0, self.hold * total_steps),
            ops.clip(at.hold - 1, 0, math.inf),
        )
        scale = ops.least(scale, cap)
        scale = ops.pick(log_loss - at.first - math.log(3), scale - math.log(4), scale)
        scale = ops.clip(scale, _LOWEST, _HIGHEST)
        moved = ops.finite(last.signals.moved / ops.clip(at.lr_before, 1e-30, math.inf), _LARGEST)
        size = ops.clip(ops.pick(last.signals.moved, moved, at.size), _LEAST, _LARGEST)
        wanted = ops.exp(scale + ops.tanh(direct)) * (1 - step / total_steps)
        lr = ops.least(wanted, self.clamp * ops.finite(last.signals.weights, 0.0) / size)
        return lr, Scale(
            scale,
            cap,
            hold,
            at.first,
            level,
            variance,
            best,
            size,
            lr,
            at.lr,
            at.num_retreats + ops.pick(worse, 1.0 + 0.0 * worse, 0.0 * worse),
            at.num_clamped + ops.pick(wanted - lr, 1.0 + 0.0 * lr, 0.0 * lr),
        )


def _log_loss(ops: Arithmetic, loss: Number) -> Number:
    return ops.finite(ops.log(ops.clip(loss, 1e-20, math.exp(_WORST))), _WORST)
