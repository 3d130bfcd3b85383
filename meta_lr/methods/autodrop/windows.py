"""AutoDrop: the rate drops a little whenever the path of the weights turns no sharper than before.

This is the second version, of 2024. The first one, of 2021, is in `epochs.py`.
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
    """What AutoDrop knows between two steps.

    Attributes:
        lr: The present rate.
        steps: Points of the path so far.
        trail: Of the path, see `optim.angles`: three copies of the parameters.
        angles: B, in degrees.
        smoothed: C of the window before; None if B was emptied since.
        num_drops: Falls of the rate.
    """

    lr: float
    steps: int = 0
    trail: Trail = ()
    angles: tuple[float, ...] = ()
    smoothed: float | None = None
    num_drops: int = 0


@dataclass(frozen=True)
class AutoDrop:
    """Drop the rate by a small factor when the angle between the weights' moves has settled.

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
        1. the angle is that of the definition, between moves of the block means; the algorithm's
           box has it between the means themselves;
        2. the kernel is a Gaussian over lags, one-sided, of the half width m/2; as printed, over
           values and without the minus sign, it gives back its input;
        3. `signed=True` is the test as printed, C_i - C_(i-1) < threshold, by which a falling
           omega drops the rate too; the text says "changes by less than", and that is what fits
           the published curves of the rate;
        4. C_(i-1) is of the same buffer, so drops are at least `buffer` + 1 windows apart;
        5. the standard deviation is that of a sample, with |B| - 1;
        6. the paper gives no number for `floor`; 1e-4 is that of the authors' first code.
        Not a deviation, but odd: sigma is in degrees and is read as windows. Angles as steady as
        the paper's, to 0.2 degrees, are hardly smoothed at all, and those of short windows, with
        some degrees of noise, over m/2 windows; m=1 switches it off.
    Cost:
        none; memory for three copies of the parameters, in float32 or better

    `k` sets the cadence: angles that are nothing but noise of the size that the paper reports drop
    the rate every 13 to 14 windows, about as often as its curves fall. `noise` is that control, and
    `lr=step` an exponential decay of the same cadence; on digits no difference was found from
    either (`docs/results`).

    Args:
        peak: The first rate.
        rho: Factor of a drop.
        k: Steps of a window; in the paper 64 on CIFAR and 640 on ImageNet.
        m: Width of the smoothing, at most, in windows.
        buffer: Angles of a decision, at least.
        threshold: In degrees; a smaller change is none.
        floor: The smallest rate.
        signed: Whether any fall of the angle counts as no change, as printed.
        noise: A control: standard deviation, in degrees, of white noise in place of the angle;
            None is the angle.
        seed: Of the noise.

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
        """The parameters, unless there is noise in their place."""
        return Need.PARAMS if self.noise is None else Need.NOTHING

    def init(self) -> AutoDropState:
        """Return the state before the first step."""
        return AutoDropState(self.peak)

    def __call__(self, view: StepView, state: AutoDropState) -> tuple[float, AutoDropState]:
        """Return the rate of this step, and the next state."""
        if view.step == 0:  # the blocks are of parameters after a step
            return state.lr, state
        angle, state = self._angle(view, state._replace(steps=state.steps + 1))
        if angle is not None:
            state = self._judge(angle, state)
        return state.lr, state

    def _angle(self, view: StepView, state: AutoDropState) -> tuple[float | None, AutoDropState]:
        """Return the angle in degrees where a window ends, and the state that leads to the next."""
        if self.noise is None:
            if not are_of(state.trail, view.params):  # a path begins, or goes on in other spaces
                state = state._replace(steps=1, trail=(), angles=(), smoothed=None)
            trail, angle = follow(state.trail, view.params, state.steps, self.k)
            return None if angle is None else float(angle), state._replace(trail=trail)
        if not has_angle(state.steps, self.k):
            return None, state
        drawn = random.Random(derive(self.seed, "autodrop", state.steps))
        return drawn.gauss(90.0, self.noise), state

    def _judge(self, angle: float, state: AutoDropState) -> AutoDropState:
        """Return the state after a window whose angle this is."""
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
    """Return the last of `angles`, averaged with those before it."""
    mean = sum(angles) / len(angles)
    deviation = math.sqrt(sum((angle - mean) ** 2 for angle in angles) / (len(angles) - 1))
    sigma = min(deviation, m / 2)
    if sigma == 0.0:
        return angles[-1]
    lags = range(min(m // 2 + 1, len(angles)))
    weights = [math.exp(-0.5 * (lag / sigma) ** 2) for lag in lags]
    return sum(w * angles[-1 - lag] for lag, w in zip(lags, weights, strict=True)) / sum(weights)


def refuse_rates(controller: object, peak: float, rho: float, floor: float) -> None:
    """Raise a ValueError unless rates can drop from `peak` by `rho` down to `floor`."""
    kind = type(controller).__name__
    if not 0 <= floor <= peak < math.inf:
        raise ValueError(
            f"{kind} got peak={peak}, floor={floor}; it needs 0 <= floor <= peak, both finite"
        )
    if not 0 < rho < 1:
        raise ValueError(f"{kind} got rho={rho}; it needs a factor in (0, 1)")
