"""Controllers made of other controllers: a warm-up, and a sequence of controllers."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from numbers import Integral
from typing import Any, Literal, NamedTuple

from meta_lr.methods.knee import rise
from meta_lr.protocol import Average, Controller, Need, Rate, StepView


class Wrapper:
    """Base class of controllers around another one, `inner`: the properties that they share."""

    inner: Controller

    @property
    def needs(self) -> Need:
        """The needs of the inner controller."""
        return self.inner.needs

    @property
    def family(self) -> str:
        """The optimizer family of the inner controller; "" for any family."""
        return getattr(self.inner, "family", "")

    def init(self) -> Any:
        """Return the inner controller's state before the first step."""
        return self.inner.init()


def times(rate: Rate, factor: float) -> Rate:
    """Return the learning rate times a factor; an average of weights is kept."""
    if isinstance(rate, Average):
        return rate._replace(rate=rate.rate * factor)
    return rate * factor


@dataclass(frozen=True)
class Warmup(Wrapper):
    """Linear warm-up of another controller's learning rate during the first steps.

    Update:
        rate(t) = inner(t) * min(1, (t + 1) / steps)
    Reference:
        Goyal et al. 2017, arXiv 1706.02677, section 2.2
    Deviations:
        the warm-up is per step, not per epoch, and starts at peak / steps.
    Cost:
        that of the inner controller, which is called from the first step on

    >>> from meta_lr.methods.basic import Constant
    >>> warmup = Warmup(Constant(0.4), steps=4)
    >>> [warmup(StepView(warmup, t), warmup.init())[0] for t in (0, 1, 3, 9)]
    [0.1, 0.2, 0.4, 0.4]
    """

    inner: Controller
    steps: int

    def __post_init__(self) -> None:
        if not hasattr(self.inner, "needs"):
            raise TypeError(
                f"Warmup got inner={self.inner!r}; it needs a controller, which on the command "
                "line is chosen by lr@lr.inner=NAME"
            )
        if not isinstance(self.steps, Integral) or self.steps < 0:
            raise ValueError(
                f"Warmup got steps={self.steps!r}; it needs a whole number of optimizer steps >= 0"
            )

    def __call__(self, view: StepView, state: Any) -> tuple[Rate, Any]:
        """Return the learning rate of this step, and the inner controller's next state."""
        rate, state = self.inner(view, state)
        return times(rate, rise(view.step, self.steps)), state


class CompositeState(NamedTuple):
    """The state of a `Composite`: the active part, and that part's state as a plain tuple."""

    part: int
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Composite:
    """Several controllers, one after the other; each sees its own part as a whole run.

    Update:
        rate(t) = part_i(t - b_i), for b_i <= t < b_(i+1), with b_0 = 0; t and b in steps, or
        b in epochs
    Reference:
        Wu et al. 2019, arXiv 1908.06477, for composites of policies
    Deviations:
        none
    Cost:
        that of the active part

    Args:
        boundaries: Where the next part begins, increasing; one fewer than parts.
        parts: The controllers. The last one is used until the end of the run and beyond.
        per: The unit of the boundaries: optimizer steps, or epochs. Each part keeps its own unit.

    >>> from meta_lr.methods.basic import Constant
    >>> both = Composite([2], [Constant(0.1), Constant(0.3)])
    >>> both(StepView(both, 2), both.init())
    (0.3, CompositeState(part=1, values=()))
    """

    boundaries: Sequence[int]
    parts: Sequence[Controller]
    per: Literal["step", "epoch"] = "step"

    def __post_init__(self) -> None:
        if self.per not in ("step", "epoch"):
            raise ValueError(f"Composite got per={self.per}; it needs step or epoch")
        object.__setattr__(self, "boundaries", _whole(self.boundaries, self.per))
        object.__setattr__(self, "parts", tuple(self.parts))
        if len(self.boundaries) != len(self.parts) - 1:
            raise ValueError(
                f"Composite got {len(self.parts)} parts and {len(self.boundaries)} boundaries; "
                "it needs one boundary between each two parts"
            )
        starts = (0, *self.boundaries)
        if any(a >= b for a, b in pairwise(starts)):
            raise ValueError(f"Composite needs increasing boundaries > 0; got {self.boundaries}")
        if len(self._families) > 1:
            raise ValueError(
                f"the parts of Composite were learned with {' and '.join(self._families)}; "
                "pass peak= to load_pretrained"
            )

    @property
    def needs(self) -> Need:
        """The needs of all parts; the run length only if the last part needs it."""
        return self._needs  # read at every step

    @cached_property
    def _needs(self) -> Need:
        own = Need.EPOCHS if self.per == "epoch" else Need.NOTHING
        needs = reduce(operator.or_, (part.needs for part in self.parts), own)
        return needs if self.parts[-1].needs & Need.HORIZON else needs & ~Need.HORIZON

    @property
    def family(self) -> str:
        """The optimizer family of the parts; "" for any family."""
        return "".join(self._families)

    def init(self) -> CompositeState:
        """Return the state before the first step."""
        return CompositeState(0, tuple(self.parts[0].init()))

    def __call__(self, view: StepView, state: CompositeState) -> tuple[Rate, CompositeState]:
        """Return the learning rate of this step, and the next state."""
        unit = view.steps_per_epoch if self.per == "epoch" else 1
        index = bisect_right(self.boundaries, view.step // unit)
        part = self.parts[index]
        own = self._kinds[index](*state.values) if index == state.part else part.init()
        rate, own = part(view.within(part, *self._stretch(index, unit, view)), own)
        return rate, CompositeState(index, tuple(own))

    def _stretch(self, index: int, unit: int, view: StepView) -> tuple[int, int]:
        start = self.boundaries[index - 1] * unit if index else 0
        if index < len(self.boundaries):
            return start, self.boundaries[index] * unit
        return start, view.total_steps if Need.HORIZON & self.needs else start

    @cached_property
    def _families(self) -> list[str]:
        return sorted({getattr(part, "family", "") for part in self.parts} - {""})

    @cached_property
    def _kinds(self) -> list[type]:
        return [type(part.init()) for part in self.parts]


def _whole(boundaries: Sequence[int], per: str) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, boundaries))
    except TypeError:
        needed = "epochs, such as [30, 60]"
        if per == "step":
            needed = "optimizer steps, such as [round(0.5 * total_steps)] for half of the run"
        raise ValueError(
            f"Composite got boundaries={boundaries!r}; it needs whole numbers of {needed}"
        ) from None
