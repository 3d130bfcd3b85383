"""AutoDrop: a small drop of the learning rate when the angular velocity of the weights saturates.

This is the second version, of 2024. The first version, of 2021, is in `epochs.py`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meta_lr.methods.checks import refuse_counts
from meta_lr.optim.angles import Trail, are_of, follow, has_angle
from meta_lr.protocol import Need, StepView
from meta_lr.seeds import derive


class AutoDropState(NamedTuple):
    """The state of AutoDrop."""

    lr: float  # the present learning rate
    steps: int = 0  # points of the path so far
    trail: Trail = ()  # of the path, see `optim.angles`: three copies of the parameters
    angles: tuple[float, ...] = ()  # B, in degrees
    smoothed: float | None = None  # C of the last window; None if B was emptied since then
    num_drops: int = 0  # of the learning rate


@dataclass(frozen=True)
class AutoDrop:
    """Drop the learning rate by a small factor when the angle between weight updates saturates.

    Update:
        y_i = mean of the parameters after steps ik+1 ... ik+k, s_i = y_i - y_(i-1);
        omega_i = angle between s_i and s_(i-1), in degrees, is put into the buffer B;
        once |B| >= `buffer`: sigma = min(s.d. of B, m/2),
        C_i = sum_j w_j omega_(i-j) / sum_j w_j, w_j = exp(-j^2 / 2 sigma^2), j = 0 ... m/2;
        the oldest of B is dropped; if |C_i - C_(i-1)| < `threshold`: lr <- max(floor, rho lr), and
        B is emptied
    Reference:
        Teng et al. 2024, UAI, "AutoDrop: Training Deep Learning Models with Automatic Learning Rate
        Drop", which has the title of arXiv 2111.15317 and another algorithm
    Deviations:
        1. the angle follows the definition: it is between the changes of the block means. In the
           algorithm's box it is between the means themselves;
        2. the kernel is a one-sided Gaussian over lags with the half width m/2. The printed kernel
           is over values and has no minus sign, so its output equals its input;
        3. `signed=True` is the printed test, C_i - C_(i-1) < threshold, where a falling omega also
           drops the learning rate. The text says "changes by less than", which agrees with the
           published curves of the learning rate;
        4. C_(i-1) is of the same buffer, so drops are at least `buffer` + 1 windows apart;
        5. the standard deviation is that of a sample, with |B| - 1;
        6. the paper gives no number for `floor`; 1e-4 is that of the authors' first code.
        Not a deviation, but unusual: sigma is in degrees and is used as a number of windows. Steady
        angles as in the paper, to 0.2 degrees, are hardly smoothed. Angles of short windows, with
        some degrees of noise, are smoothed over m/2 windows. m=1 switches the smoothing off.
    Cost:
        none; memory for three copies of the parameters, in float32 or better

    `k` sets how often the learning rate drops. Pure noise of the size that the paper reports, used
    as the angle, gives a drop every 13 to 14 windows. This is about as often as in the paper's
    curves. `noise` is this control; `lr=step` is an exponential decay with as many drops. On digits
    there was no significant difference from either (`docs/results`).

    Args:
        peak: The first learning rate.
        rho: Factor of a drop.
        k: Length of a window, in steps; in the paper 64 on CIFAR and 640 on ImageNet.
        m: Largest width of the smoothing, in windows.
        buffer: Smallest number of angles for a decision.
        threshold: In degrees; a smaller change counts as no change.
        floor: The smallest learning rate.
        signed: Whether any fall of the angle counts as no change, as printed.
        noise: A control: standard deviation, in degrees, of white noise that replaces the angle;
            None uses the angle.
        seed: Seed of the noise.

    Raises:
        ValueError: An argument is out of range.

    >>> method = AutoDrop(0.1, rho=0.5, k=1, noise=0.0)
    >>> state, rates = method.init(), []
    >>> for step in range(28):
    ...     rate, state = method(StepView(method, step), state)
    ...     rates.append(rate)
    >>> [rates[step] for step in (12, 13, 23, 24)]
    [0.1, 0.05, 0.05, 0.025]
    """

    peak: float
    rho: float = 0.95
    k: int = 64
    m: int = 10
    buffer: int = 10
    threshold: float = 0.1
    floor: float = 1e-4
    signed: bool = False
    noise: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        refuse_rates(self, self.peak, self.rho, self.floor)
        refuse_counts(self, 1, "k", "m")
        refuse_counts(self, 2, "buffer")
        for name in ("threshold", "noise"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"AutoDrop got {name}={value}; it needs degrees, finite and >= 0")

    @property
    def needs(self) -> Need:
        """The parameters; nothing if noise replaces the angle."""
        return Need.PARAMS if self.noise is None else Need.NOTHING

    def init(self) -> AutoDropState:
        """Return the state before the first step."""
        return AutoDropState(self.peak)

    def __call__(self, view: StepView, state: AutoDropState) -> tuple[float, AutoDropState]:
        """Return the learning rate of this step, and the next state."""
        if view.step == 0:  # the blocks hold parameters after a step
            return state.lr, state
        angle, state = self._angle(view, state._replace(steps=state.steps + 1))
        if angle is not None:
            state = self._judge(angle, state)
        return state.lr, state

    def _angle(self, view: StepView, state: AutoDropState) -> tuple[float | None, AutoDropState]:
        """Return the angle in degrees at the end of a window, else None, and the next state."""
        if self.noise is None:
            if not are_of(state.trail, view.params):  # the path begins, or the parameters changed
                state = state._replace(steps=1, trail=(), angles=(), smoothed=None)
            trail, angle = follow(state.trail, view.params, state.steps, self.k)
            return None if angle is None else float(angle), state._replace(trail=trail)
        if not has_angle(state.steps, self.k):
            return None, state
        drawn = random.Random(derive(self.seed, "autodrop", state.steps))
        return drawn.gauss(90.0, self.noise), state

    def _judge(self, angle: float, state: AutoDropState) -> AutoDropState:
        """Return the state after a window with this angle."""
        angles = (*state.angles, angle)
        if len(angles) < self.buffer:
            return state._replace(angles=angles)
        smoothed = smooth(angles, self.m)
        if state.smoothed is None or not self._settled(smoothed - state.smoothed):
            return state._replace(angles=angles[1:], smoothed=smoothed)
        lr = max(self.floor, self.rho * state.lr)
        num_drops = state.num_drops + (lr < state.lr)
        return state._replace(lr=lr, angles=(), smoothed=None, num_drops=num_drops)

    def _settled(self, change: float) -> bool:
        return (change if self.signed else abs(change)) < self.threshold


def smooth(angles: Sequence[float], m: int) -> float:
    """Return the smoothed last angle: a weighted mean of it and the angles before it."""
    mean = sum(angles) / len(angles)
    deviation = math.sqrt(sum((angle - mean) ** 2 for angle in angles) / (len(angles) - 1))
    sigma = min(deviation, m / 2)
    if sigma == 0.0:
        return angles[-1]
    lags = range(min(m // 2 + 1, len(angles)))
    weights = [math.exp(-0.5 * (lag / sigma) ** 2) for lag in lags]
    return sum(w * angles[-1 - lag] for lag, w in zip(lags, weights, strict=True)) / sum(weights)


def refuse_rates(controller: object, peak: float, rho: float, floor: float) -> None:
    """Raise a ValueError unless the learning rate can drop from `peak` by `rho` to `floor`."""
    kind = type(controller).__name__
    if not 0 <= floor <= peak < math.inf:
        raise ValueError(
            f"{kind} got peak={peak}, floor={floor}; it needs 0 <= floor <= peak, both finite"
        )
    if not 0 < rho < 1:
        raise ValueError(f"{kind} got rho={rho}; it needs a factor in (0, 1)")
