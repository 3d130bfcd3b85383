"""The scale of a learning rate, adapted during the run: it grows slowly and falls quickly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from meta_lr.methods.features.arithmetic import Arithmetic, Number
from meta_lr.methods.features.feature import Moment, share_of_run
from meta_lr.methods.networks.network import is_number

_LEAST, _LARGEST = 1e-12, 1e12  # bounds of sizes in logarithms and ratios
_TINY = 1e-30  # smallest learning rate in a denominator
_WORST = 50.0  # logarithm of a loss that is not finite
_SMOOTH = 0.1  # share of a new loss in the smoothed one
_LOWEST, _HIGHEST = -30.0, 20.0  # bounds of the scale's logarithm
_NOISE = 1.5  # smallest rise of the smoothed loss that counts, in deviations of a loss
_JUMP = 1e3  # largest growth of a gradient per step; larger growth is clipped
_FOLLOW = 0.3  # the scale falls by this share of the clamp's reduction; also its largest fall


class Scale(NamedTuple):
    """The state of the integrator; each number has shape () or (copies,)."""

    scale: Number  # logarithm of the learning rate before annealing
    cap: Number  # largest value of the scale
    hold: Number  # steps until a retreat is possible again, and the cap rises
    rest: Number  # steps until an alarm is possible again
    first: Number  # logarithm of the first loss
    level: Number  # smoothed logarithm of the loss
    latest: Number  # logarithm of the last loss
    variance: Number  # half of the mean squared change per step
    best: Number  # lowest level so far, or the level at the last retreat
    size: Number  # last update per unit of learning rate, in units of the weights
    way: Number  # sum of the learning rates, smoothed like the weights
    reach: Number  # logarithm of the spread of the weights that results from the learning rate
    pace: Number  # logarithm of the relative update, smoothed over a share of the run
    grads: Number  # size of the gradient one step ago
    lr: Number  # of the last step
    lr_before: Number  # of the step before
    num_retreats: Number
    num_clamped: Number
    num_alarms: Number


@dataclass(frozen=True)
class Integrator:
    """Integrates the outputs of a network, within bounds that do not depend on the network.

    Update:
        s_0: the first update is `start / sqrt(T)` in units of the weights (`optim.signals`);
        s <- min(s + kappa tanh(increment + ln(target (1 - t / T)^power) - r), cap), where r is the
        logarithm of the larger of two spreads: the present spread of the weights, and the spread
        expected at the present learning rate. The latter is the present spread, divided by the sum
        of the learning rates in the window of the average, times the present learning rate and the
        length of that window;
        kappa = min(most, ln 10 / (decade T));
        lr = (1 - t / T) exp(s + tanh(direct)).
        Spread: distance of the weights from their average over a twentieth of the run.
        Relative update: size of an update in units of the weights; it is smoothed over the same
        window.
        Clamp: an update is at most `clamp` times the weights, and at most `surge` times the
        smoothed relative update; s falls as well.
        Retreat: if the smoothed logarithm of the loss exceeds its best value by
        max(margin, 1.5 deviations of a single value), s falls by ln 2 and the cap is set there; the
        cap is constant for `hold T` steps, then rises by kappa / 2 per step.
        Alarm: if the loss exceeds three times the first loss, or is not finite, s falls by ln 4, at
        most once in `hold T` steps.
    Reference:
        none
    Cost:
        a few operations on numbers

    Args:
        start: First relative update, times sqrt(T).
        target: Target spread at the start of the run, if the network's output is zero, in units of
            the weights.
        power: The target spread falls as 1 - t / T to this power.
        decade: Share of the run in which the learning rate can grow by a factor of ten.
        most: Largest growth per step, e-folds.
        clamp: Largest relative update.
        surge: Largest relative update, as a multiple of the smoothed one.
        margin: Smallest rise of the smoothed loss that counts as a deterioration, e-folds.
        hold: Share of the run in which the cap of a retreat is constant.
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
            ops: The arithmetic, for numbers or tensors.
            loss: Loss of the first step.
            size: Size of the first update per unit of learning rate, in units of the weights.
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
        ahead = at.lr / (share * ops.clip(way, _TINY, math.inf))  # expected / present spread
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
        worse = ops.pick(0.5 - at.hold, worse, 0.0 * worse)  # not during the hold of a retreat
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
        """Return the smallest number of steps between two retreats or two alarms."""
        return max(8.0, self.hold * last.total_steps)

    def _alarm(self, ops: Arithmetic, at: Scale, last: Moment) -> Scale:
        """Return the state with a quarter of the learning rate, if the loss is much too large."""
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
        """Return the learning rate, limited so that no update is too large, and the next state."""
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
