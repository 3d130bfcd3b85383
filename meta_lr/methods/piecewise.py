"""A schedule through given points, such as those that `meta-lr explain` fits to a checkpoint."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from meta_lr.files import write_atomically
from meta_lr.json_text import parse_json
from meta_lr.methods.basic import Stateless
from meta_lr.protocol import Need, NoState, StepView

FORMAT = 1


@dataclass(frozen=True)
class Piecewise(Stateless):
    """Interpolate between given points, linearly in the logarithm of the learning rate.

    Update:
        log rate(t) = linear between (f_i, log rate_i) at f = t / T, with T = total_steps;
        before f_1 it is the first learning rate, after f_n the last one
    Reference:
        none
    Deviations:
        none; with two knots it is an exponential decay.
    Cost:
        none

    Args:
        knots: Pairs (fraction of the run, learning rate). The fractions are in [0, 1] and increase;
            the learning rates are positive.
        family: The optimizer family that the learning rates are valid for, as named by
            `rules.family`; "" for any family.

    >>> from meta_lr.protocol import StepView
    >>> policy = Piecewise([(0.0, 0.4), (0.5, 0.1)])
    >>> [round(policy(StepView(policy, t, total_steps=8), ())[0], 6) for t in (0, 2, 4, 7)]
    [0.4, 0.2, 0.1, 0.1]
    """

    knots: Sequence[Sequence[float]]
    family: str = ""
    needs = Need.HORIZON

    def __post_init__(self) -> None:
        object.__setattr__(self, "knots", tuple(tuple(knot) for knot in self.knots))
        if not self.knots or any(len(knot) != 2 for knot in self.knots):
            raise ValueError(
                f"knots={self.knots} is no policy; it needs at least one pair "
                "(fraction of the run, learning rate)"
            )
        fractions = [fraction for fraction, _ in self.knots]
        inside = 0 <= fractions[0] and fractions[-1] <= 1
        if not inside or not all(a < b for a, b in pairwise(fractions)):
            raise ValueError(
                f"knots={self.knots} is out of range; it needs fractions that rise within [0, 1]"
            )
        if not all(0 < rate < math.inf for _, rate in self.knots):
            raise ValueError(
                f"knots={self.knots} is out of range; it needs finite learning rates > 0"
            )

    @classmethod
    def load(cls, path: str | Path) -> Piecewise:
        """Read a policy from a JSON file.

        Raises:
            ValueError: The file holds no policy, or a policy in a newer format.
        """
        try:
            content = parse_json(Path(path).read_bytes())
            version, knots = content["format"], content["knots"]
            if version == FORMAT:
                pairs = [(float(fraction), float(rate)) for fraction, rate in knots]
                return cls(pairs, _text(content.get("family", "")))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ValueError(
                f"{path} holds no policy ({type(error).__name__}: {error}); needed is "
                f'{{"format": {FORMAT}, "knots": [[fraction, rate], ...], "family": "sgd"}}, where '
                "family may be left out"
            ) from None
        raise ValueError(
            f"{path} has format {version}, this meta_lr reads {FORMAT}; install a newer meta_lr"
        )

    def save(self, path: Path) -> None:
        """Write the policy as JSON."""
        content = {"format": FORMAT, "knots": self.knots}
        content |= {"family": self.family} if self.family else {}
        write_atomically(path, (json.dumps(content) + "\n").encode())

    def __call__(self, view: StepView, state: NoState) -> tuple[float, NoState]:
        """Return the learning rate of this step, and the state."""
        fraction = view.step / view.total_steps
        after = bisect_right(self.knots, fraction, key=lambda knot: knot[0])
        if after in (0, len(self.knots)):
            return self.knots[max(after - 1, 0)][1], state
        (start, first), (end, last) = self.knots[after - 1], self.knots[after]
        return first * (last / first) ** ((fraction - start) / (end - start)), state


def piecewise(
    knots: Sequence[Sequence[float]] | None, path: str | None = None, family: str | None = None
) -> Piecewise:
    """Return the policy in the file `path`; without a file, the policy through `knots`.

    Args:
        knots: Pairs (fraction of the run, learning rate).
        path: Path of a file that `Piecewise.save` wrote. If it is given, `knots` is ignored.
        family: The optimizer family that the learning rates are valid for, "" for any family. None
            takes it from the file; without a file it means any family.

    Raises:
        ValueError: Neither is given, or the given one is no valid policy.
    """
    if path is None and knots is None:
        raise ValueError("Piecewise needs a path, or knots such as [[0.0, 0.1], [1.0, 0.001]]")
    policy = Piecewise(knots or ()) if path is None else Piecewise.load(path)
    return policy if family is None else replace(policy, family=family)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"family is {value!r}")
    return value
