"""The search space: LRBench's policies, for a range of learning rates and a run length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.shapes import SHAPES

KINDS = (
    *("fix", "step", "exp", "inv", "poly"),
    *("tri", "tri2", "triexp", "sin", "sin2", "sinexp", "cos", "cos2", "cosexp"),
)
"""The kinds of policies that are searched by default: decays, and cycles up and down."""

_CYCLES = (1, 2, 4, 8, 16)  # half cycles, or teeth, in a run
_DROPS = (1, 2, 3, 5, 8)
_POWERS = (0.5, 1.0, 2.0)
DEPTH = 100.0  # largest ratio of a policy's highest to its lowest learning rate


class Chooser(Protocol):
    """Chooses one number at a time; a trial of Optuna is a chooser."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number between `low` and `high`."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of `choices`."""
        ...


@dataclass(frozen=True)
class Space:
    """The policies with a highest learning rate in [k0, k1], for a run of `total_steps`.

    They may fall to a hundredth of their highest learning rate. Learning rates below k0 have no
    effect in a range test, but they are useful late in a run.

    Args:
        k0: Lower end of the highest learning rates; above 0.
        k1: Upper end of the highest learning rates; above k0.
        total_steps: Length of the run.
        kinds: Kinds of policies.

    Raises:
        ValueError: k0 and k1 are no range, a kind is unknown, or there are no kinds.
    """

    k0: float
    k1: float
    total_steps: int
    kinds: Sequence[str] = KINDS

    def __post_init__(self) -> None:
        if not 0 < self.k0 < self.k1 < math.inf:
            raise ValueError(f"k0={self.k0}, k1={self.k1}; the learning rates need 0 < k0 < k1")
        object.__setattr__(self, "kinds", tuple(self.kinds))
        unknown = [kind for kind in self.kinds if kind not in SHAPES]
        if unknown or not self.kinds:
            wrong = f"unknown policy {unknown[0]!r}" if unknown else "no kind of policy"
            raise ValueError(f"{wrong}; choose some of: {', '.join(SHAPES)}")

    def choose(self, chooser: Chooser) -> Policy:
        """Return a policy with the numbers that the chooser gives."""
        kind = chooser.suggest_categorical("kind", self.kinds)
        high = chooser.suggest_float("high", self.k0, self.k1, log=True)
        rest = self._rest(kind, high, chooser)
        return Policy(kind, **{name: _rounded(value) for name, value in rest.items()})

    def _rest(self, kind: str, high: float, chooser: Chooser) -> dict[str, Any]:
        takes = SHAPES[kind].takes
        chosen: dict[str, Any] = {"k0": high}
        if "k1" in takes:
            low = high / chooser.suggest_float("depth", 1.0, DEPTH, log=True)
            chosen = {"k0": low, "k1": high}
        if "gamma" in takes:
            chosen |= self._decay(kind, chooser)
        if "p" in takes:
            chosen.setdefault("p", chooser.suggest_categorical("p", _POWERS))
        if "l" in takes:
            chosen.setdefault("l", self._length(kind, chooser))
        return chosen

    def _decay(self, kind: str, chooser: Chooser) -> dict[str, Any]:
        """Return the options with which a policy, or its cycles, ends at a share of the height."""
        steps, share = self.total_steps, chooser.suggest_float("end", 1 / DEPTH, 0.5, log=True)
        if kind in ("step", "nstep"):
            drops = chooser.suggest_categorical("drops", _DROPS)
            ends = [steps * (drop + 1) // (drops + 1) for drop in range(drops)]
            length = max(1, math.ceil(steps / (drops + 1)))
            return {"gamma": share ** (1 / drops), "l": ends if kind == "nstep" else length}
        if kind == "inv":
            power = chooser.suggest_categorical("p", _POWERS)
            return {"gamma": (share ** (-1 / power) - 1) / steps, "p": power}
        if kind == "sig":  # from 1 / (1 + share) to share / (1 + share)
            return {"gamma": 2 * math.log(share) / steps, "l": steps // 2}
        return {"gamma": share ** (1 / steps)}

    def _length(self, kind: str, chooser: Chooser) -> int:
        if kind == "poly":
            return self.total_steps
        return max(1, self.total_steps // chooser.suggest_categorical("cycles", _CYCLES))


def _rounded(value: Any) -> Any:
    """Return a number with eight digits: short in names, but exact enough for factors near 1."""
    return float(f"{value:.8g}") if isinstance(value, float) else value
