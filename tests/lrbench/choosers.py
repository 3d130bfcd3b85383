"""A chooser for the search space, in place of a trial of Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Random:
    """Chooses independently and at random."""

    generator: np.random.Generator

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return float(np.exp(self.generator.uniform(np.log(low), np.log(high))))
        return float(self.generator.uniform(low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[int(self.generator.integers(len(choices)))]
