"""The scale of a learning rate, found along the run: it grows slowly, and falls at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from meta_lr.methods.features.arithmetic import Arithmetic, Number
from meta_lr.methods.features.feature import Moment, share_of_run
from meta_lr.methods.networks.network import is_number

_LEAST, _LARGEST = 1e-12, 1e12  # of sizes whose logarithm or ratio is taken
_TINY = 1e-30  # of learning rates that are divided by
_WORST = 50.0  # logarithm of a loss that is not finite
_SMOOTH = 0.1  # share of a new loss in the smoothed one
_LOWEST, _HIGHEST = -30.0, 20.0  # logarithms of the scale
_NOISE = 1.5  # deviations of a loss that a rise of the smoothed one must exceed
_JUMP = 1e3  # largest growth of a gradient in a step that is believed
_FOLLOW = 0.3  # share of what the clamp takes away that the scale falls by; also its most


class Scale(NamedTuple):
    """What the integrator remembers, each number of shape () or (copies,)."""

    scale: Number  # logarithm of the learning rate before annealing
    cap: Number  # largest value of it
    hold: Number  # steps until a retreat is possible again, and the cap rises
    rest: Number  # steps until an alarm is possible again
    first: Number  # logarithm of the first loss
    level: Number  # smoothed logarithm of the loss
    latest: Number  # logarithm of the last loss
    variance: Number  # half of the mean squared change of it in a step
    best: Number  # least level so far, or that of the last retreat
    size: Number  # of the last update per unit of learning rate, in units of the weights
    way: Number  # sum of the learning rates, smoothed as the weights are
    reach: Number  # logarithm of the spread of the weights that the learning rate leads to
    pace: Number  # logarithm of the relative update, smoothed over a share of the run
    grads: Number  # size of the gradient, a step ago
    lr: Number  # of the last step
    lr_before: Number  # of the step before
    num_retreats: Number
    num_clamped: Number
    num_alarms: Number


@dataclass(frozen=True)
class Integrator:
    """Adds up what a network says, within bounds that do not depend on the network.

    Update:
        s_0: the first update is `start / sqrt(T)` in units of the weights (`optim.signals`);
        s <- min(s + kappa tanh(increment + ln(target (1 - t / T)^power) - r), cap), where r is the
        logarithm of the spread that the weights have, or that the present learning rate leads to if
        that is larger: the spread over the sum of the learning rates in the window of the average,
        times the present learning rate and the length of that window;
        kappa = min(most, ln 10 / (decade T));
        lr = (1 - t / T) exp(s + tanh(direct)).
        Spread: distance of the weights from their average over a twentieth of the run.
        Relative update: size of an update in units of the weights; it is smoothed over the same
        window.
        Clamp: no update is above `clamp` of the weights, or above `surge` times the smoothed
        relative update; s falls with it.
        Retreat: where the smoothed logarithm of the loss is above its best by
        max(margin, 1.5 deviations of a single one), s falls by ln 2 and is capped there; the cap
        waits for `hold T` steps, then rises by kappa / 2 per step.
        Alarm: where the loss is above three times the first one, or not finite, s falls by ln 4,
        once in `hold T` steps.
    Reference:
        none
    Cost:
        a few operations on numbers

    Args:
        start: First relative update, times sqrt(T).
        target: Spread that s leads to at the start of the run where the network says nothing, in
            units of the weights.
        power: The spread that s leads to falls as 1 - t / T to this power.
        decade: Share of the run in which the learning rate can grow tenfold.
        most: Largest growth per step, e-folds.
        clamp: Largest relative update.
        surge: Largest relative update, as a multiple of the smoothed one.
        margin: Least rise of the smoothed loss that counts as a deterioration, e-folds.
        hold: Share of the run for which a retreat holds.
    """

    start: float = 0.03
    target: float = 0.25
    power: float = 0.5
    decade: float = 0.08
    most: float = 0.3
    clamp: float = 0.075
    surge: float = 3.0
    margin: float = 0.15
    hold: float = 0.03

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not is_number(value) or value <= 0:
                raise ValueError(f"Integrator got {name}={value!r}; a positive number is needed")

    def begin(
        self, ops: Arithmetic, loss: Number, size: Number, total_steps: int
    ) -> tuple[Number, Scale]:
        """Return the first learning rate and the state.

        Args:
            ops: For numbers or tensors.
            loss: Of the first step.
            size: Of the first update per unit of learning rate, in units of the weights.
            total_steps: Length of the run.
        """
        size = ops.clip(size, _LEAST, _LARGEST)
        level, zero, start = _log_loss(ops, loss), 0.0 * size, self.start / math.sqrt(total_steps)
        scale = math.log(start) - ops.log(size)
        lr = ops.exp(scale)
        return lr, Scale(
            scale=scale,
            cap=zero + _HIGHEST,
            hold=zero,
            rest=zero,
            first=level,
            level=level,
            latest=level,
            variance=zero,
            best=level,
            size=size,
            way=zero,
            reach=zero + math.log(_LEAST),
            pace=zero + math.log(start),
            grads=zero,
            lr=lr,
            lr_before=lr,
            num_retreats=zero,
            num_clamped=zero,
            num_alarms=zero,
        )

    def step(
        self, ops: Arithmetic, at: Scale, last: Moment, direct: Number, increment: Number
    ) -> tuple[Number, Scale]:
        """Return the learning rate of the step after `last`, and the next state."""
        kappa = min(self.most, math.log(10) / (self.decade * last.total_steps))
        at = self._watch(ops, at, last)
        left = max(1 - (last.step + 1) / last.total_steps, 1 / last.total_steps)
        target = math.log(self.target) + self.power * math.log(left)
        at = at._replace(scale=at.scale + kappa * ops.tanh(increment + target - at.reach))
        at = self._retreat(ops, at, last, kappa)
        at = self._alarm(ops, at, last)
        return self._limit(ops, at, last, ops.tanh(direct))

    def _watch(self, ops: Arithmetic, at: Scale, last: Moment) -> Scale:
        """Return the state after the loss and the signals of the last step."""
        assert last.signals is not None
        log_loss, share = _log_loss(ops, last.loss), 1 / (share_of_run(last.total_steps) + 1)
        level = at.level + _SMOOTH * (log_loss - at.level)
        update = ops.finite(last.signals.update, _LARGEST)
        size = ops.finite(update / ops.clip(at.lr_before, _TINY, math.inf), _LARGEST)
        pace = ops.log(ops.clip(update, _LEAST, 1.0))
        way = (1 - share) * (at.way + at.lr_before)
        spread = ops.clip(ops.finite(last.signals.spread, _LARGEST), _LEAST, _LARGEST)
        ahead = at.lr / (share * ops.clip(way, _TINY, math.inf))  # of this spread, in its window
        reach = ops.log(spread * ops.clip(ahead, 1.0, _LARGEST))
        return at._replace(
            level=level,
            variance=at.variance + _SMOOTH * (0.5 * (log_loss - at.latest) ** 2 - at.variance),
            latest=log_loss,
            best=ops.least(at.best, level),
            size=ops.clip(ops.pick(update, size, at.size), _LEAST, _LARGEST),
            way=ops.pick(update, way, at.way),
            reach=ops.pick(update, reach, at.reach),
            pace=at.pace + ops.pick(update, share * (pace - at.pace), 0.0 * pace),
        )

    def _retreat(self, ops: Arithmetic, at: Scale, last: Moment, kappa: float) -> Scale:
        """Return the state with half of the learning rate, if the smoothed loss has risen."""
        bar = ops.clip(_NOISE * ops.sqrt(at.variance), self.margin, math.inf)
        worse = at.level - at.best - bar if last.step > 4 else 0.0 * at.level
        worse = ops.pick(0.5 - at.hold, worse, 0.0 * worse)  # not while a retreat holds
        cap = at.cap + ops.pick(0.5 - at.hold, 0.0 * at.cap + kappa / 2, 0.0 * at.cap)
        cap = ops.pick(worse, at.scale - math.log(2), cap)
        steps = 0.0 * at.hold + self._held(last)
        return at._replace(
            scale=ops.least(at.scale, cap),
            cap=cap,
            hold=ops.pick(worse, steps, ops.clip(at.hold - 1, 0.0, math.inf)),
            best=ops.pick(worse, at.level, at.best),
            num_retreats=at.num_retreats + ops.pick(worse, steps / steps, 0.0 * steps),
        )

    def _held(self, last: Moment) -> float:
        """Return the number of steps from a retreat or an alarm to the next that is possible."""
        return max(8.0, self.hold * last.total_steps)

    def _alarm(self, ops: Arithmetic, at: Scale, last: Moment) -> Scale:
        """Return the state with a quarter of the learning rate, if the loss is far too large."""
        hot = _log_loss(ops, last.loss) - at.first - math.log(3)
        hot = ops.pick(0.5 - at.rest, hot, 0.0 * hot)
        one = 0.0 * hot + 1.0
        steps = one * self._held(last)
        fall = ops.pick(hot, math.log(4) * one, 0.0 * one)
        return at._replace(
            scale=ops.clip(at.scale - fall, _LOWEST, _HIGHEST),
            rest=ops.pick(hot, steps, ops.clip(at.rest - 1, 0.0, math.inf)),
            num_alarms=at.num_alarms + ops.pick(hot, one, 0.0 * one),
        )

    def _limit(
        self, ops: Arithmetic, at: Scale, last: Moment, direct: Number
    ) -> tuple[Number, Scale]:
        """Return the learning rate, no update being too large, and the next state."""
        assert last.signals is not None
        grads = ops.clip(ops.finite(last.signals.gradient, _LARGEST), _LEAST, _LARGEST)
        jump = ops.clip(grads / ops.clip(at.grads, _LEAST, _LARGEST), 1.0, _JUMP)
        jump = ops.pick(at.grads, jump, 1.0 + 0.0 * jump)
        largest = ops.least(0.0 * at.pace + self.clamp, self.surge * ops.exp(at.pace))
        largest = largest / (at.size * jump)
        wanted = ops.exp(at.scale + direct) * (1 - (last.step + 1) / last.total_steps)
        lr = ops.least(wanted, largest)
        excess = ops.log(ops.clip(wanted / ops.clip(lr, _TINY, math.inf), 1.0, _LARGEST))
        return lr, at._replace(
            scale=ops.clip(at.scale - ops.clip(_FOLLOW * excess, 0.0, _FOLLOW), _LOWEST, _HIGHEST),
            grads=grads,
            lr=lr,
            lr_before=at.lr,
            num_clamped=at.num_clamped + ops.pick(excess, 1.0 + 0.0 * lr, 0.0 * lr),
        )


def _log_loss(ops: Arithmetic, loss: Number) -> Number:
    return ops.finite(ops.log(ops.clip(loss, 1e-20, math.exp(_WORST))), _WORST)
