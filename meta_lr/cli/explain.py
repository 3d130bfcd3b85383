"""`meta-lr explain CHECKPOINT`: what a checkpoint does with the loss, told and drawn."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from meta_lr.cli.flags import Parser

if TYPE_CHECKING:
    from meta_lr.methods.mlr_snet.learned import Learned
    from meta_lr.methods.self_tuning.schedule import SelfTuning
    from meta_lr.report.figures import Picture

STEPS = 2000  # of a run of synthetic losses, for a schedule of the loss
STEPS_SELF_TUNING = 1000  # of the synthetic runs, for a schedule that finds its own learning rate
OUT, POLICY = "explain", "policy.json"


def explain(arguments: list[str]) -> int:
    """Explain a checkpoint as `arguments` say; write its figure, and its policy if it has one."""
    options = _options(arguments)
    from meta_lr import checkpoint
    from meta_lr.methods.self_tuning.schedule import SelfTuning

    folder = checkpoint.find(options.checkpoint)
    learned, contract = checkpoint.load(folder)
    title = f"{options.checkpoint} ({contract['fingerprint']}): {learned.net}"
    card = folder / checkpoint.CARD
    if isinstance(learned, SelfTuning):
        _self_tuning(learned, title, options, card)
    else:
        _of_the_loss(learned, title, options, card)
    return 0


def _of_the_loss(learned: Learned, title: str, options: argparse.Namespace, card: Path) -> None:
    import numpy as np

    from meta_lr.cli.family import optimizer_choice
    from meta_lr.explain import loss_schedule, loss_text
    from meta_lr.methods.curve import learning_rates
    from meta_lr.report.explain_figure import explanation_picture

    losses = loss_schedule.curves(options.runs, learned.loss_range, options.steps, STEPS)
    found = loss_schedule.explain(learned, losses)
    fitted = np.array(learning_rates(found.policy, len(next(iter(losses.values())))))
    picture = explanation_picture(found.losses, found.rates, fitted)
    said = loss_text.for_card(found, fitted, learned.family, f"{OUT}/{POLICY}")
    shown = loss_text.for_terminal(found, fitted, learned.loss_range)
    stages = f"stages {len(learned.stages)}"
    out = _write(options, card, picture, said, f"{title}, {stages}\n\n{shown}")
    replace(found.policy, family=learned.family).save(out / POLICY)
    choice = optimizer_choice(learned.family)
    optimizer = f" optimizer={choice}" if choice else ""
    print(f"use the policy:  meta-lr train lr=piecewise lr.path={out / POLICY}{optimizer}")


def _self_tuning(schedule: SelfTuning, title: str, options: argparse.Namespace, card: Path) -> None:
    if options.runs:
        raise ValueError(
            "--run replays recorded losses, and this checkpoint reads gradients too, which are not "
            "recorded; leave --run out"
        )
    from meta_lr.explain import self_tuning_text, text
    from meta_lr.report.explain_figure import replay_picture

    steps = options.steps or STEPS_SELF_TUNING
    replays = self_tuning_text.replayed(schedule, steps)
    forms = text.markdown, text.aligned
    said, shown = self_tuning_text.told(schedule, steps, replays, forms)
    _write(options, card, replay_picture(replays), said, f"{title}\n\n{shown}\n")


def _write(
    options: argparse.Namespace, card: Path, picture: Picture, said: str, shown: str
) -> Path:
    """Print an explanation, write its figure, and `said` on the card; return the figure's folder.

    A folder of the user's own has it beside its card, and on it, unless `--out` says otherwise. The
    card of a checkpoint that was installed or fetched, or cannot be written, is not the user's.
    """
    from meta_lr.explain.text import with_section
    from meta_lr.report.files import write_file, write_pictures

    name, also, text = options.checkpoint, "", ""
    is_own = options.out is None and Path(name).is_dir() and os.access(card.parent, os.W_OK)
    if is_own:
        before = card.read_bytes().decode() if card.is_file() else ""
        figure = f"![{picture.caption}]({OUT}/{picture.name}.png)"
        text = with_section(before, f"{figure}\n\n{said}", card)
    short = Path(name).resolve().name if Path(name).is_dir() else name.removeprefix("hub:")
    out = options.out or (card.parent / OUT if is_own else Path(OUT, short))
    print(shown)
    write_pictures([picture], out)
    if is_own:
        write_file(card, text.encode())
        also = f"; also on the card, {card}"
    print(f"figure: {out / picture.name}.svg, .png{also}")
    return out


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
        f"for a checkpoint that finds its own learning rate {STEPS_SELF_TUNING})",
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
