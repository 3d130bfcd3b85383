"""The explanation of a schedule that finds its own learning rate in words and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from meta_lr.explain.facts import facts
from meta_lr.explain.history import histories
from meta_lr.explain.loss_schedule import SHORTEST
from meta_lr.explain.readings import readings
from meta_lr.explain.replay import Replay, replay
from meta_lr.explain.sensitivity import Effect, effects
from meta_lr.explain.text import Form, Rows, at_parts, header_of_parts, percent
from meta_lr.methods.self_tuning.schedule import SelfTuning

LEAST = 1e-5  # a smaller effect counts as none


def replayed(schedule: SelfTuning, steps: int) -> dict[str, Replay]:
    """Return the behaviour in each of the synthetic runs of `steps` steps, by name."""
    return {name: replay(schedule, history) for name, history in histories(steps).items()}


def told(
    schedule: SelfTuning, steps: int, replays: Mapping[str, Replay], forms: Sequence[Form]
) -> list[str]:
    """Return what the schedule does in `replays`, of `steps` steps, once per form of tables."""
    shorter = max(steps // 10, SHORTEST)
    runs = [*replays.values(), *replayed(schedule, shorter).values()]
    found = _facts(schedule, replays), _rates(replays), _effects(schedule, runs)
    return [_text(steps, shorter, *map(form, found)) for form in forms]


def _text(steps: int, shorter: int, facts: str, rates: str, effects: str) -> str:
    return f"""\
Synthetic runs of {steps:,} steps; the losses do not react to the learning rate. "Times" is over the
first learning rate of the run.

{facts}

{rates}

Each feature is changed alone, by one standard deviation of its values in these runs and in runs of
{shorter:,} steps. + means: more of the feature gives a larger learning rate; -: a smaller one; both
signs: it depends on the step.

{effects}"""


def _facts(schedule: SelfTuning, replays: Mapping[str, Replay]) -> Rows:
    return [
        ["what it does", "value"],
        *(
            [what, percent(value) if kind == "share" else f"{value:.3g} times"]
            for what, value, kind in facts(schedule, replays)
        ),
    ]


def _rates(replays: Mapping[str, Replay]) -> Rows:
    """Return a row per run: the learning rate at parts of it, and how often what happened."""
    events = list(next(iter(replays.values())).events)
    rows = (
        [name, *at_parts(run.lr), *(str(len(run.events[event])) for event in events)]
        for name, run in replays.items()
    )
    return [[*header_of_parts("times, at"), *events], *rows]


def _effects(schedule: SelfTuning, runs: Sequence[Replay]) -> Rows:
    head = ["feature", "changed by", "growth per 1 % of the run", "learning rate at once"]
    return [head, *map(_effect, effects(schedule, [readings(schedule, run) for run in runs]))]


def _effect(of: Effect) -> list[str]:
    growth, direct = _signed(of.growth_sign, of.growth), _signed(of.direct_sign, of.direct)
    return [of.feature, f"{of.change:.2g}", growth, direct]


def _signed(sign: int, size: float) -> str:
    """Write a change of a logarithm as a part of the learning rate."""
    if size < LEAST:
        return "0 %"
    shown = {1: "+", -1: "-", 0: "\u00b1"}[sign]
    return f"{shown}{percent(abs(math.expm1(-size if sign < 0 else size)))}"
