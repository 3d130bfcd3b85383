"""LRBench's 34 learning-rate policies: one formula, with a shape of `shapes.SHAPES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, Literal, TypeGuard

from meta_lr.methods.basic import Stateless
from meta_lr.methods.policies.shapes import SHAPES
from meta_lr.protocol import Need, NoState, StepView


@dataclass(frozen=True)
class Policy(Stateless):
    """A policy of LRBench: the learning rate follows a shape between two values.

    Update:
        rate(t) = k0 + (k1 - k0) g(t), or k0 g(t) without k1; g depends on the `kind`:

            fix          1
            step         gamma^floor(t / l)
            nstep        gamma^#{b in l: b <= t}
            exp          gamma^t
            inv          (1 + gamma t)^-p
            poly         (1 - t / l)^p: from k1 to k0
            sig          1 / (1 + e^(-gamma (t - l))): falls if gamma < 0
            tri, sin     up from k0 to k1 in l and down again, straight or as |sine|
            dtri, dsin   the same, shifted by l: from k1 down to k0 first
            upcos, cos   as tri and dtri, along a cosine
            rsw          (l - (t mod l)) / l: a saw-tooth from k1 to k0
            sinrsw       sin(pi/2 rsw)
            cosrsw       (1 - cos(pi rsw)) / 2
            ...2         these waves, halved after each cycle: dtri2, dsin2, cos2 after l, 3l, ...
            ...exp       these waves, times gamma^t
    Reference:
        Wu & Liu 2022, arXiv 2210.12936; Wu et al. 2019, arXiv 1908.06477; the code LRBench
    Deviations:
        1. as in LRBench's code, k1 < k0 inverts the shape; eq. 2 of the 2019 paper always uses the
           smaller of the two as the lower end;
        2. as in the code, a cycle of cos is 2l; `period="l"` is that of the paper's table;
        3. as in the code, the saw-tooths are k0, not k1, at t = 0 and each multiple of l;
        4. poly stays at k0 from t = l on; the code rises again, or becomes complex;
        5. nstep counts the boundaries again at each step; the code keeps a counter.
    Cost:
        none

    Args:
        kind: The shape, one of `meta_lr.methods.policies.shapes.SHAPES`.
        k0: The learning rate at one end.
        k1: The learning rate at the other end, for the kinds with two ends.
        l: For waves, half a cycle; for saw-tooths, a cycle; for step, the length of a step; for
            poly, its length; for sig, its middle; for nstep, the increasing boundaries. The unit
            is steps or epochs, see `per`.
        gamma: The factor of the decay, > 0; for sig a slope of any sign.
        p: An exponent > 0.
        per: The unit of t, l and gamma: optimizer steps, or whole epochs.
        period: The cycle of cos: "2l", or "l".

    Raises:
        ValueError: The kind is unknown; or a number is missing, not allowed for this kind, or out
            of range.

    >>> policy = Policy("tri", 0.1, k1=1.0, l=100)
    >>> [round(policy.at(t), 3) for t in (0, 50, 99, 100, 150, 200)]
    [0.1, 0.55, 0.991, 1.0, 0.55, 0.1]
    """

    kind: str
    k0: float
    _: KW_ONLY
    k1: float | None = None
    l: float | Sequence[float] | None = None  # noqa: E741  # the paper's name, and the user's
    gamma: float | None = None
    p: float | None = None
    per: Literal["step", "epoch"] = "step"
    period: Literal["2l", "l"] = "2l"

    def __post_init__(self) -> None:
        self._refuse_words()
        for name in ("k0", "k1", "l", "gamma", "p"):
            value = _plain(getattr(self, name))
            self._refuse(name, value)
            object.__setattr__(self, name, value)

    @property
    def needs(self) -> Need:
        """The length of an epoch, if the policy counts epochs; else nothing."""
        return Need.EPOCHS if self.per == "epoch" else Need.NOTHING

    def at(self, t: float) -> float:
        """Return the learning rate after `t` steps, or `t` epochs if the policy counts epochs."""
        height = SHAPES[self.kind].height(t, *self._inner)
        return self.k0 * height if self.k1 is None else self.k0 + (self.k1 - self.k0) * height

    def __call__(self, view: StepView, state: NoState) -> tuple[float, NoState]:
        """Return the learning rate of this step, and the state."""
        t = view.step // view.steps_per_epoch if self.per == "epoch" else view.step
        return self.at(t), state

    @cached_property
    def _inner(self) -> tuple[Any, ...]:
        """The arguments of the shape besides the ends."""
        values = {name: getattr(self, name) for name in SHAPES[self.kind].takes}
        if self.period == "l":
            values["l"] /= 2
        return tuple(value for name, value in values.items() if name not in ("k0", "k1"))

    def _refuse_words(self) -> None:
        if self.kind not in SHAPES:
            raise ValueError(f"unknown policy {self.kind!r}; choose one of: {', '.join(SHAPES)}")
        if self.per not in ("step", "epoch"):
            raise ValueError(f"{self.kind} got per={self.per}; it needs step or epoch")
        if self.period != "2l" and (self.period, self.kind) != ("l", "cos"):
            raise ValueError(
                f"{self.kind} got period={self.period}; it needs 2l; cos may have l too"
            )

    def _refuse(self, name: str, value: object) -> None:
        """Raise a ValueError if this policy does not accept the number `name` or its value."""
        takes, kind = SHAPES[self.kind].takes, self.kind
        if name not in takes:
            if value is not None:
                raise ValueError(f"{kind} got {name}={value}; it takes {', '.join(takes)}")
            return
        holds, needed = _needed(kind, name)
        if value is None:
            raise ValueError(f"{kind} needs {name}=..., {needed}; it takes {', '.join(takes)}")
        if not holds(value):
            raise ValueError(f"{kind} got {name}={value}; it needs {needed}")


def _plain(value: object) -> object:
    """Return a number as an int or a float, a list as a tuple of them; else the value itself."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -math.inf < value < math.inf


def _is_positive(value: object) -> TypeGuard[float]:
    return _is_number(value) and value > 0


def _is_rate(value: object) -> bool:
    return _is_number(value) and value >= 0


def _rises(value: object) -> bool:
    if not isinstance(value, tuple) or not value or not all(map(_is_positive, value)):
        return False
    return all(a < b for a, b in pairwise(value))


def _needed(kind: str, name: str) -> tuple[Callable[[object], bool], str]:
    """Return the requirement for the number `name` of a policy: as a test, and in words."""
    if name in ("k0", "k1"):
        return _is_rate, "a finite learning rate >= 0"
    if (kind, name) == ("nstep", "l"):
        return _rises, "a list of rising numbers > 0, such as [80, 120]"
    if (kind, name) == ("sig", "gamma"):
        return _is_number, "a finite number"
    return _is_positive, "a finite number > 0"
