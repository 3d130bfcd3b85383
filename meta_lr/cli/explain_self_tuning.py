"""`meta-lr explain CHECKPOINT` for a schedule that finds its own learning rate."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from meta_lr.cli.explain_card import (
    Place,
    aligned,
    at_parts,
    header_of_parts,
    markdown,
    percent,
    section,
    write,
)

if TYPE_CHECKING:
    from meta_lr.explain.facts import Fact
    from meta_lr.explain.replay import Replay
    from meta_lr.explain.sensitivity import Effect
    from meta_lr.methods.self_tuning.schedule import SelfTuning

STEPS = 1000  # of the replayed runs
LEAST = 1e-5  # a smaller effect counts as none

_SIGNS = {1: "+", -1: "-", 0: "\u00b1"}

Rows = list[list[str]]

_TEXT = """\
Synthetic runs of {steps:,} steps; the losses do not react to the learning rate. "Times" is over the
first learning rate of the run.

{facts}

{replays}

Each feature is changed alone, by one standard deviation of its values in these runs and in runs of
{shorter:,} steps. + means: more of the feature gives a larger learning rate; -: a smaller one; both
signs: it depends on the step.

{effects}"""


def tell(schedule: SelfTuning, title: str, options: argparse.Namespace, place: Place) -> None:
    """Print what the schedule does, and write its figure.

    Raises:
        ValueError: Runs are given: their records hold no gradients.
    """
    if options.runs:
        raise ValueError(
            "--run replays recorded losses, and this checkpoint reads gradients too, which are not "
            "recorded; leave --run out"
        )
    from meta_lr.explain.facts import facts
    from meta_lr.report.explain_figure import replay_picture

    steps = options.steps or STEPS
    replays = _replays(schedule, steps)
    tables = {
        "facts": _facts(facts(schedule, replays)),
        "replays": _rates(replays),
        "effects": _effects(_varied(schedule, replays, _shorter(steps))),
    }
    picture = replay_picture(replays)
    card = place.explained(section(picture, _text(steps, tables, markdown)))
    print(f"{title}\n\n{_text(steps, tables, aligned)}\n")
    write(place, picture, card)


def _replays(schedule: SelfTuning, steps: int) -> dict[str, Replay]:
    from meta_lr.explain.history import histories
    from meta_lr.explain.replay import replay

    return {name: replay(schedule, history) for name, history in histories(steps).items()}


def _shorter(steps: int) -> int:
    from meta_lr.explain.loss_schedule import SHORTEST

    return max(steps // 10, SHORTEST)


def _varied(schedule: SelfTuning, replays: Mapping[str, Replay], shorter: int) -> list[Effect]:
    """Return the effects of the features in these runs, and in shorter ones."""
    from meta_lr.explain.readings import readings
    from meta_lr.explain.sensitivity import effects

    runs = [*replays.values(), *_replays(schedule, shorter).values()]
    return effects(schedule, [readings(schedule, run) for run in runs])


def _text(steps: int, tables: Mapping[str, Rows], form: Callable[[Rows], str]) -> str:
    written = {name: form(rows) for name, rows in tables.items()}
    return _TEXT.format(steps=steps, shorter=_shorter(steps), **written)


def _facts(found: Sequence[Fact]) -> Rows:
    return [["what it does", "value"], *([fact.what, _value(fact)] for fact in found)]


def _value(fact: Fact) -> str:
    return percent(fact.value) if fact.kind == "share" else f"{fact.value:.3g} times"


def _rates(replays: Mapping[str, Replay]) -> Rows:
    """Return a row per run: the learning rate at parts of it, and how often what happened."""
    events = list(next(iter(replays.values())).events)
    rows = (
        [name, *at_parts(run.lr), *(str(len(run.events[event])) for event in events)]
        for name, run in replays.items()
    )
    return [[*header_of_parts("times, at"), *events], *rows]


def _effects(found: Sequence[Effect]) -> Rows:
    head = ["feature", "changed by", "growth per 1 % of the run", "learning rate at once"]
    rows = (
        [
            effect.feature,
            f"{effect.change:.2g}",
            _signed(effect.growth_sign, effect.growth),
            _signed(effect.direct_sign, effect.direct),
        ]
        for effect in found
    )
    return [head, *rows]


def _signed(sign: int, size: float) -> str:
    """Write a change of a logarithm as a part of the learning rate."""
    if size < LEAST:
        return "0 %"
    return f"{_SIGNS[sign]}{percent(abs(math.expm1(-size if sign < 0 else size)))}"
