"""`meta-lr explain CHECKPOINT`: what a checkpoint does with the loss, told and drawn."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from meta_lr.cli import explain_self_tuning
from meta_lr.cli.explain_card import (
    OUT,
    Place,
    aligned,
    at_parts,
    header_of_parts,
    markdown,
    percent,
    place_of,
    section,
    write,
)
from meta_lr.cli.flags import Parser

if TYPE_CHECKING:
    from meta_lr.explain.loss_schedule import Array, Curves, Explanation
    from meta_lr.methods.mlr_snet.learned import Learned
    from meta_lr.report.figures import Picture

STEPS = 2000  # of a run of synthetic losses, for a schedule of the loss
POLICY = "policy.json"

_SECTION = """\
**{verdict}**

{table}

{effects}

{policy}"""


def explain(arguments: list[str]) -> int:
    """Explain a checkpoint as `arguments` say; write its figure, and its policy if it has one."""
    options = _options(arguments)
    from meta_lr import checkpoint
    from meta_lr.methods.self_tuning.schedule import SelfTuning

    folder = checkpoint.find(options.checkpoint)
    learned, contract = checkpoint.load(folder)
    place = place_of(options.checkpoint, folder / checkpoint.CARD, options.out)
    title = f"{options.checkpoint} ({contract['fingerprint']}): {learned.net}"
    if isinstance(learned, SelfTuning):
        explain_self_tuning.tell(learned, title, options, place)
    else:
        _explain(learned, title, options, place)
    return 0


def _explain(learned: Learned, title: str, options: argparse.Namespace, place: Place) -> None:
    """Explain a schedule of the loss."""
    import numpy as np

    from meta_lr.cli.family import optimizer_choice
    from meta_lr.explain import loss_schedule as logic
    from meta_lr.methods.curve import learning_rates
    from meta_lr.report.explain_figure import explanation_picture

    losses = _losses(learned, options)
    found = logic.explain(learned, losses)
    fitted = np.array(learning_rates(found.policy, _length(losses)))
    picture = explanation_picture(found.losses, found.rates, fitted)
    card = place.explained(_section(found, fitted, picture, learned.family))
    _show(title, learned, found, fitted)
    write(place, picture, card)
    replace(found.policy, family=learned.family).save(place.out / POLICY)
    choice = optimizer_choice(learned.family)
    optimizer = f" optimizer={choice}" if choice else ""
    print(f"use the policy:  meta-lr train lr=piecewise lr.path={place.out / POLICY}{optimizer}")


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="meta-lr explain",
        description="Show which learning rates a checkpoint gives on curves of losses, how far the "
        "losses matter to them, and a closed form of them. For a checkpoint that finds its own "
        "learning rate: what it does in synthetic runs, and what it reacts to. Nothing is trained.",
    )
    parser.add_argument("checkpoint", help="a bundled name, a folder, or hub:org/name@revision")
    parser.add_argument(
        *("--run", "--runs"),
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FOLDER",
        dest="runs",
        help="finished runs whose recorded losses are replayed, at the length of the first; one is "
        "compared with synthetic losses, more with each other (default: synthetic losses only); "
        "not for a checkpoint that reads gradients",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help=f"length of the replayed run (default: that of the first run given, else {STEPS}; "
        f"for a checkpoint that finds its own learning rate {explain_self_tuning.STEPS})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write (default: CHECKPOINT/explain, and a section on its card; for one that "
        "is bundled, from the hub or read-only: explain/NAME here)",
    )
    options = parser.parse_args(arguments)
    from meta_lr.explain.loss_schedule import SHORTEST

    if options.steps is not None and options.steps < SHORTEST:
        parser.error(f"--steps is {options.steps}; needed are at least {SHORTEST}")
    return options


def _losses(learned: Learned, options: argparse.Namespace) -> Curves:
    """Return the curves to compare, all of one length; those of the runs come first."""
    from meta_lr.explain.loss_schedule import recorded, stretched, synthetic

    curves: dict[str, Array] = {}
    for folder in options.runs:
        name, losses = recorded(folder)
        same = sum(other.partition(" (")[0] == name for other in curves)
        curves[f"{name} ({same + 1})" if same else name] = losses
    steps = options.steps or (_length(curves) if curves else STEPS)
    curves = {name: stretched(losses, steps) for name, losses in curves.items()}
    if len(curves) < 2:
        curves.update(synthetic(learned.loss_range, steps))
    return curves


def _length(curves: Curves) -> int:
    return len(next(iter(curves.values())))


def _section(found: Explanation, fitted: Array, picture: Picture, family: str) -> str:
    """Return the card's section, in Markdown."""
    effects = [("change of the losses", "rate, median", "rate, largest"), *_effects(found)]
    bound = f", with an optimizer of the family `{family}`" if family else ""
    text = _SECTION.format(
        verdict=_verdict(found),
        table=markdown(_table(found, fitted)),
        effects=markdown(effects),
        policy=f"{_policy(found)} It is in `{OUT}/{POLICY}`; use it with\n"
        f"`meta_lr.methods.piecewise.Piecewise.load(path)`, which needs no network{bound}.",
    )
    return section(picture, text)


def _show(title: str, learned: Learned, found: Explanation, fitted: Array) -> None:
    print(f"{title}, stages {len(learned.stages)}\n")
    print(aligned(_table(found, fitted)), end="\n\n")
    print(_verdict(found), end="\n\n")
    print(aligned([("change of the losses", "median", "largest"), *_effects(found)]), end="\n\n")
    print(_policy(found))
    for curve, losses in found.losses.items():
        share = _outside(learned, losses)
        if share:
            print(f"{curve}: {share:.1%} of its losses are outside what was seen in meta-training")


def _table(found: Explanation, fitted: Array) -> list[list[str]]:
    """Return the rates at parts of the run: a header, a row per curve, and the policy's."""
    rows = {**found.rates, "distilled": fitted}
    return [header_of_parts("rate at"), *([name, *at_parts(y)] for name, y in rows.items())]


def _effects(found: Explanation) -> list[tuple[str, str, str]]:
    return [(e.change, _signed(e.median), _signed(e.largest)) for e in found.effects]


def _verdict(found: Explanation) -> str:
    """Return in words, with its numbers, what the network is."""
    from meta_lr.explain.loss_schedule import NOTHING

    fed = f"though the losses differ by {percent(found.loss_difference)} (median)"
    if found.verdict == "a constant":
        return (
            f"In effect a constant: over all curves and steps the rate varies by "
            f"{percent(found.spread)} (below {NOTHING:.0%}), {fed}."
        )
    differs = f"on different losses the rate differs by at most {percent(found.difference)}"
    if found.verdict == "a fixed curve":
        return f"In effect a fixed curve: {differs} at any step (below {NOTHING:.0%}), {fed}."
    return (
        f"It listens to the loss: {differs} at the same step (median over the steps "
        f"{percent(found.usual_difference)}), where the losses differ by "
        f"{percent(found.loss_difference)} (median)."
    )


def _policy(found: Explanation) -> str:
    first = next(iter(found.rates))
    only = " On other losses the network's own rate is another." if _listens(found) else ""
    return (
        f"Distilled: {len(found.policy.knots)} knots; the largest relative error on '{first}' is "
        f"{percent(found.policy_error)}, the median {percent(found.usual_policy_error)}.{only}"
    )


def _listens(found: Explanation) -> bool:
    return found.verdict == "it listens to the loss"


def _signed(share: float) -> str:
    return f"{100 * share:+.2g} %" if abs(share) < 0.1 else f"{100 * share:+.0f} %"


def _outside(learned: Learned, losses: Array) -> float:
    """Return the share of losses beyond those of meta-training."""
    if learned.loss_range is None:
        return 0.0
    low, high = learned.loss_range
    return float(((losses < low) | (losses > high)).mean())
