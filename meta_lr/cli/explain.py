"""`meta-lr explain CHECKPOINT`: what a checkpoint does with the loss, told and drawn."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from meta_lr.cli.plain import Parser

if TYPE_CHECKING:
    from meta_lr.explain import Array, Curves, Explanation
    from meta_lr.report.figures import Picture
    from meta_lr.schedulers.learned import Learned

STEPS = 2000  # of a run of synthetic losses
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the run, at which the table shows the rate
BEGIN, END = "<!-- meta-lr explain: begin -->", "<!-- meta-lr explain: end -->"
OUT, POLICY = "explain", "policy.json"

_SECTION = """\
{begin}

## What it does, replayed

![{caption}]({figure})

{verdict}

{table}

{effects}

{policy}

{end}"""


def explain(arguments: list[str]) -> int:
    """Explain a checkpoint as `arguments` say; write its figure and its policy.

    A folder of the user's own has them on its card too, unless they go elsewhere. The card of a
    checkpoint that was installed or fetched, or cannot be written, is not the user's, and stays.
    """
    options = _options(arguments)
    from meta_lr import checkpoint
    from meta_lr import explain as logic
    from meta_lr.cli.family import optimizer_choice
    from meta_lr.report.figures import explanation_picture
    from meta_lr.report.files import write_file, write_pictures
    from meta_lr.schedulers.self_tuning import SelfTuning

    folder = checkpoint.find(options.checkpoint)
    learned, contract = checkpoint.load(folder)
    if isinstance(learned, SelfTuning):
        raise ValueError(
            f"{options.checkpoint} finds its own learning rate from losses and gradients; explain "
            "replays schedules of the loss alone"
        )
    losses = _losses(learned, options)
    found = logic.explain(learned, losses)
    fitted = logic.rates_of(found.policy, _length(losses))
    picture = explanation_picture(found.losses, found.rates, fitted)
    name, card = options.checkpoint, folder / checkpoint.CARD
    own = options.out is None and Path(name).is_dir() and os.access(folder, os.W_OK)
    after = _explained(card, _section(found, fitted, picture, learned.family)) if own else ""
    out = options.out or (folder / OUT if own else Path(OUT, _short(name)))
    _show(name, contract["fingerprint"], learned, found, fitted)
    write_pictures([picture], out)
    replace(found.policy, family=learned.family).save(out / POLICY)
    if own:
        write_file(card, after.encode())
    also = f"; also on the card, {card}" if own else ""
    print(f"figure: {out / picture.name}.svg, .png{also}")
    choice = optimizer_choice(learned.family)
    optimizer = f" optimizer={choice}" if choice else ""
    print(f"use the policy:  meta-lr train lr=piecewise lr.path={out / POLICY}{optimizer}")
    return 0


def _short(name: str) -> str:
    """Return the name of a checkpoint that is not the user's, as a folder's."""
    return Path(name).resolve().name if Path(name).is_dir() else name.removeprefix("hub:")


def with_section(card: str, section: str, path: Path) -> str:
    """Return the card's text with `section` in place of the one before, else at its end.

    Raises:
        ValueError: Only one of the two comments around the section is there; `path` names the card.
    """
    start, end = card.find(BEGIN), card.find(END)
    if start == end == -1:
        gap = "" if not card else "\n" if card.endswith("\n") else "\n\n"
        return f"{card}{gap}{section}\n"
    if start == -1 or end < start:
        raise ValueError(
            f"{path} has lost one of the comments '{BEGIN}' and '{END}', or their order; "
            "remove the other one and what explain wrote"
        )
    return card[:start] + section + card[end + len(END) :]


def _explained(card: Path, section: str) -> str:
    before = card.read_bytes().decode() if card.is_file() else ""
    return with_section(before, section, card)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="meta-lr explain",
        description="Show which rates a checkpoint gives on curves of losses, how far the losses "
        "matter to them, and a closed form of them. Nothing is trained.",
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
        "compared with synthetic losses, more with each other (default: synthetic losses only)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help=f"length of the replayed run (default: that of the first run given, else {STEPS})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write (default: CHECKPOINT/explain, and a section on its card; for one that "
        "is bundled, from the hub or read-only: explain/NAME here)",
    )
    options = parser.parse_args(arguments)
    from meta_lr.explain import SHORTEST

    if options.steps is not None and options.steps < SHORTEST:
        parser.error(f"--steps is {options.steps}; needed are at least {SHORTEST}")
    return options


def _losses(learned: Learned, options: argparse.Namespace) -> Curves:
    """Return the curves to compare, all of one length; those of the runs come first."""
    from meta_lr.explain import recorded, stretched, synthetic

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
    head, *rows = _table(found, fitted)
    rule = ["---"] * len(head)
    effects = [("change of the losses", "rate, median", "rate, largest"), *_effects(found)]
    bound = f", with an optimizer of the family `{family}`" if family else ""
    return _SECTION.format(
        begin=BEGIN,
        end=END,
        caption=picture.caption,
        figure=f"{OUT}/{picture.name}.png",
        verdict=f"**{_verdict(found)}**",
        table=_markdown([head, rule, *rows]),
        effects=_markdown([effects[0], ["---"] * 3, *effects[1:]]),
        policy=f"{_policy(found)} It is in `{OUT}/{POLICY}`; use it with\n"
        f"`meta_lr.baselines.piecewise.Piecewise.load(path)`, which needs no network{bound}.",
    )


def _markdown(rows: list) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _show(name: str, fingerprint: str, learned: Learned, found: Explanation, fitted: Array) -> None:
    print(f"{name} ({fingerprint}): {learned.net}, stages {len(learned.stages)}\n")
    print(_aligned(_table(found, fitted)), end="\n\n")
    print(_verdict(found), end="\n\n")
    print(_aligned([("change of the losses", "median", "largest"), *_effects(found)]), end="\n\n")
    print(_policy(found))
    for curve, losses in found.losses.items():
        share = _outside(learned, losses)
        if share:
            print(f"{curve}: {share:.1%} of its losses are outside what was seen in meta-training")


def _table(found: Explanation, fitted: Array) -> list[list[str]]:
    """Return the rates at `PARTS` of the run: a header, a row per curve, and the policy's."""
    head = ["rate at", *(f"{part:.0%}".replace("%", " %") for part in PARTS)]
    rows = {**found.rates, "distilled": fitted}
    places = [round(part * (len(fitted) - 1)) for part in PARTS]
    return [head, *([name, *(f"{y[i]:.4g}" for i in places)] for name, y in rows.items())]


def _aligned(rows: list) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:{w}}" for cell, w in zip(r, widths, strict=True)) for r in rows)
    return "\n".join(line.rstrip() for line in lines)


def _effects(found: Explanation) -> list[tuple[str, str, str]]:
    return [(e.change, _signed(e.median), _signed(e.largest)) for e in found.effects]


def _verdict(found: Explanation) -> str:
    """Return in words, with its numbers, what the network is."""
    from meta_lr.explain import NOTHING

    fed = f"though the losses differ by {_percent(found.loss_difference)} (median)"
    if found.verdict == "a constant":
        return (
            f"In effect a constant: over all curves and steps the rate varies by "
            f"{_percent(found.spread)} (below {NOTHING:.0%}), {fed}."
        )
    differs = f"on different losses the rate differs by at most {_percent(found.difference)}"
    if found.verdict == "a fixed curve":
        return f"In effect a fixed curve: {differs} at any step (below {NOTHING:.0%}), {fed}."
    return (
        f"It listens to the loss: {differs} at the same step (median over the steps "
        f"{_percent(found.usual_difference)}), where the losses differ by "
        f"{_percent(found.loss_difference)} (median)."
    )


def _policy(found: Explanation) -> str:
    first = next(iter(found.rates))
    only = " On other losses the network's own rate is another." if _listens(found) else ""
    return (
        f"Distilled: {len(found.policy.knots)} knots; the largest relative error on '{first}' is "
        f"{_percent(found.policy_error)}, the median {_percent(found.usual_policy_error)}.{only}"
    )


def _listens(found: Explanation) -> bool:
    return found.verdict == "it listens to the loss"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _signed(share: float) -> str:
    return f"{100 * share:+.2g} %" if abs(share) < 0.1 else f"{100 * share:+.0f} %"


def _outside(learned: Learned, losses: Array) -> float:
    """Return the share of losses beyond those of meta-training."""
    if learned.loss_range is None:
        return 0.0
    low, high = learned.loss_range
    return float(((losses < low) | (losses > high)).mean())
