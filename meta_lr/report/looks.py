"""The look of the figures: one colour per method in the whole report, and the style of the axes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from meta_lr.report.groups import CONTROL

# Okabe and Ito's colours, without those too light on white; colour-blind readers can distinguish
# them.
PALETTE = (
    *("#d55e00", "#0072b2", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#8b6f47", "#7f7f7f"),
)
INK, MUTED, GRID, PAPER = "#1f2328", "#667079", "#e2e5e9", "#ffffff"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a name may contain dollar signs
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "meta_lr",
}


@dataclass(frozen=True)
class Look:
    """How a method is drawn, in every figure."""

    colour: str
    dashes: str


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """Assign a colour to each method; with more than eight, colours repeat with dashed lines.

    The colours do not depend on the ranking, so a new result does not change the colour of a
    method. The control is also dashed, because it may cover the line of the learned schedule.
    """
    dashes = ("-", "--", ":", "-.")
    n = len(PALETTE)
    return {
        label: Look(PALETTE[i % n], dashes[(i // n + label.startswith(CONTROL)) % len(dashes)])
        for i, label in enumerate(sorted(set(labels)))
    }
