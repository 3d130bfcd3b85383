"""Compare the self-tuning schedule with cosines: a small transformer learns Python's own manual.

    python examples/self_tuning.py [--steps 300] [--seed 0] [--text novel.txt] [--out FOLDER]

It trains with SGD with momentum and with AdamW. For each of them it runs cosines: with torch's
default learning rate, with the one peak that is best over the small problems of meta-training, and
with eight peaks, of which the best is shown. It also runs the self-tuning schedule,
`ControlledLR(optimizer, total_steps=...)`, which needs no learning rate. It prints a table and
draws a figure.
"""

from __future__ import annotations

import argparse
import math
import pydoc_data.topics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

import meta_lr

CONTEXT, BATCH, WIDTH = 48, 16, 64
WARM_UP = 0.05  # share of the run in which a cosine rises to its peak
# Name -> the optimizer's constructor, torch's default learning rate, and the best peak over the
# small problems of meta-training.
OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], float, float]] = {
    "SGD, momentum 0.9": (partial(SGD, momentum=0.9), 1e-3, 0.1),
    "AdamW": (AdamW, 1e-3, 0.01),
}
TUNED = tuple(10 ** (-2.5 + 0.5 * place) for place in range(8))  # times the peak above


class Run(NamedTuple):
    """One training run."""

    name: str
    val_loss: float  # at the end, nats
    lrs: list[float]
    losses: list[float]


class Transformer(nn.Module):
    """A causal transformer of two layers."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(symbols, WIDTH), nn.Linear(WIDTH, symbols)
        self.places = nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, F.gelu, norm_first=True)
        layer.self_attn.batch_first = True
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH), False)
        mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Map characters (batch, CONTEXT) to logits (batch, CONTEXT, symbols)."""
        return self.head(self.layers(self.embed(ids) + self.places, self.get_buffer("mask")))


class Text(NamedTuple):
    """Windows of a text, as indices of characters."""

    train: Tensor  # (examples, CONTEXT + 1)
    val: Tensor
    symbols: int


def read(path: Path | None) -> Text:
    """Return the text of a file, or Python's manual."""
    topics = pydoc_data.topics.topics.values()
    letters = path.read_text(encoding="utf-8") if path else "\n".join(topics)
    places = {letter: place for place, letter in enumerate(sorted(set(letters)))}
    ids = torch.tensor([places[letter] for letter in letters])
    windows = ids.unfold(0, CONTEXT + 1, CONTEXT)
    return Text(windows[:-400], windows[-400:], len(places))


def loss_of(model: nn.Module, windows: Tensor) -> Tensor:
    """Return the mean cross-entropy (), nats."""
    return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def cosine(optimizer: Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a warm-up to the optimizer's learning rate, then a cosine to zero."""

    def share(step: int) -> float:
        rise = min(1.0, (step + 1) / (WARM_UP * steps))
        return rise * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def train(
    name: str, text: Text, make: Callable[..., Optimizer], peak: float, steps: int, seed: int = 0
) -> Run:
    """Train from the same weights on the same batches; a peak of 0 means self-tuning."""
    torch.manual_seed(seed)
    model, draws = Transformer(text.symbols), torch.Generator().manual_seed(seed)
    optimizer = make(model.parameters(), lr=peak or 1.0)
    learned = meta_lr.ControlledLR(optimizer, total_steps=steps) if not peak else None
    usual = cosine(optimizer, steps) if peak else None
    lrs, losses = [], []
    for _ in range(steps):
        batch = text.train[torch.randint(len(text.train), (BATCH,), generator=draws)]
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        if learned is not None:
            learned.observe(loss)
        optimizer.step()
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        losses.append(loss.item())
        if usual is not None:
            usual.step()
    with torch.no_grad():
        return Run(name, loss_of(model.eval(), text.val).item(), lrs, losses)


def compare(text: Text, kind: str, steps: int, seed: int) -> list[Run]:
    """Return the runs with one optimizer: default, global peak, best peak, self-tuning."""
    make, default, usual = OPTIMIZERS[kind]
    run = partial(train, text=text, make=make, steps=steps, seed=seed)
    peaks = [usual * factor for factor in TUNED]
    tuned = [
        run(f"cosine, best of {len(peaks)}: {p:.2g}", peak=p)
        for p in track(peaks, f"{kind}, {len(peaks)} cosines")
    ]
    best = min(tuned, key=lambda one: one.val_loss if one.val_loss == one.val_loss else math.inf)
    return [
        run(f"cosine, torch's default: {default:g}", peak=default),
        run(f"cosine, one peak for all: {usual:g}", peak=usual),
        best,
        run("self-tuning: no learning rate", peak=0.0),
    ]


def table(found: dict[str, list[Run]]) -> str:
    """Return the table of all runs."""
    lines = [f"{'optimizer':20}{'learning rate':36}{'val loss':>8}"]
    lines += [
        f"{kind:20}{run.name:36}{run.val_loss:8.3f}" for kind, runs in found.items() for run in runs
    ]
    return "\n".join(lines)


def draw(found: dict[str, list[Run]], path: Path) -> None:
    """Draw learning rates and smoothed losses, with one column for each optimizer."""
    figure, axes = plt.subplots(2, len(found), figsize=(9, 5), sharex=True, squeeze=False)
    for column, (kind, runs) in enumerate(found.items()):
        for place, run in enumerate(runs):
            style = {"color": f"C{place}", "linewidth": 2.2 if place == len(runs) - 1 else 1.2}
            axes[0][column].plot(run.lrs, label=run.name, **style)
            axes[1][column].plot(smoothed(run.losses), **style)
        axes[0][column].set(title=kind, yscale="log", ylabel="learning rate")
        axes[0][column].legend(fontsize=7)
        axes[1][column].set(xlabel="step", ylabel="training loss, smoothed")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def smoothed(losses: Sequence[float], share: float = 0.1) -> list[float]:
    """Return the exponential moving average."""
    found = [losses[0]]
    for loss in losses[1:]:
        found.append(found[-1] + share * (loss - found[-1]))
    return found


def main() -> None:
    """Run all, print the table and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument("--text", type=Path, help="a plain text; without it Python's manual")
    parser.add_argument("--out", type=Path, default=Path("runs/self_tuning"))
    args = parser.parse_args()
    text = read(args.text)
    found = {kind: compare(text, kind, args.steps, args.seed) for kind in OPTIMIZERS}
    path = args.out / "self_tuning.svg"
    draw(found, path)
    print(table(found), f"\n\nfigure: {path}")


if __name__ == "__main__":
    main()
