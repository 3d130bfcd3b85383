"""Ten numbers that summarise the behaviour of a self-tuning schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from meta_lr.explain.history import BLOWS_UP, FALLS, PLATEAU, RECOVERED, RISES, STUCK
from meta_lr.explain.replay import Replay
from meta_lr.methods.self_tuning.schedule import SelfTuning


class Fact(NamedTuple):
    """A number and its meaning; the unit "share" is a fraction, "times" is a factor."""

    what: str
    value: float
    kind: Literal["share", "times"]


def facts(schedule: SelfTuning, replays: Mapping[str, Replay]) -> list[Fact]:
    """Return ten numbers: six from the replays of `histories`, four from the schedule's bounds."""
    return [*_of_replays(replays), *_of_bounds(schedule, len(replays[FALLS].lr))]


def _of_bounds(schedule: SelfTuning, steps: int) -> list[Fact]:
    bounds = schedule.integrator
    tenfold = max(bounds.decade, math.log(10) / (bounds.most * steps))
    return [
        Fact("least part of the run in which the learning rate grows tenfold", tenfold, "share"),
        Fact("spread of the weights that it leads to without a network", bounds.target, "share"),
        Fact("largest update allowed, of the norm of the weights", bounds.clamp, "share"),
        Fact("least rise of the smoothed loss for a retreat", math.expm1(bounds.margin), "share"),
    ]


def _of_replays(replays: Mapping[str, Replay]) -> list[Fact]:
    falls, stuck, blown = (replays[name] for name in (FALLS, STUCK, BLOWS_UP))
    steps = len(falls.lr)
    waiting = stuck.lr[: int(PLATEAU * steps)].max()
    before, after = blown.lr[: int(RISES * steps)].max(), blown.lr[int(RECOVERED * steps) :].max()
    return [
        Fact("first update, of the norm of the weights", falls.updates[0], "share"),
        Fact(f"{FALLS}: learning rate after 10 % of the run", falls.lr[steps // 10], "times"),
        Fact(f"{FALLS}: highest learning rate", falls.lr.max(), "times"),
        Fact(f"{FALLS}: largest update, of the norm of the weights", falls.updates.max(), "share"),
        Fact(f"{STUCK}: highest learning rate on the plateau", waiting, "times"),
        Fact(
            f"{BLOWS_UP}: highest learning rate after it, over that before", after / before, "times"
        ),
    ]
