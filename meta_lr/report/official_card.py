"""The card of a checkpoint of the authors' files, and what the files do, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from meta_lr.checkpoint import PAPER
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.mlr_snet.official import settled
from meta_lr.report.card import ratio, responses

LOSSES = (0.01, 0.3, 2.3, 4.6)  # nats, at which the card shows each stage
CONSTANT = 1.2  # a stage whose largest output is below this times its smallest is a constant


def card(learned: Learned, files: Sequence[Path], place: Path) -> str:
    """Return the card, in Markdown, of the checkpoint `place` that was made of these files."""
    rows = outputs(learned)
    listed = "\n".join(f"{i}. `{path.name}`" for i, path in enumerate(files, 1))
    return f"""\
---
license: unknown
library_name: meta_lr
tags: [learning-rate, meta-learning]
---

# The official MLR-SNet

The three schedulers that the authors of MLR-SNet published, imported. Paper: {PAPER};
IEEE TPAMI, DOI 10.1109/TPAMI.2022.3184315. The weights are theirs. No licence came with them, so
meta_lr does not distribute them: do not pass this folder on.

```python
learned = meta_lr.load_pretrained("{place.as_posix()}")
scheduler = meta_lr.ControlledLR(optimizer, learned, total_steps=len(loader) * epochs)
```

## What the files are

{listed}

Each holds one LSTM cell of 11,776 weights. They are read with the cell of the authors' meta-test
code: gates in the order i, f, g, o, and no forget offset. The cell of their meta-training code
loads them too, without an error, and gives other rates. They were probably kept after
epochs 1, 100 and 200 of a run on CIFAR-10 with ResNet-18 and SGD without momentum; the files do not
say so, and they match neither training script that was published.

## The transfer rule

Each stage steers a third of the run, in steps; the memory is carried over.
{rule(learned)}

With L the loss and C the number of classes, the authors' formula is
gamma = |sqrt(L) ln(L C)| / (4 C^(1/4)), with L from a pass over the whole training set. It is zero
at L = 1/C and rises again below, so here L counts as e/C where it is smaller.

## What it does with the loss

The output p after 60 steps at a constant loss, from an empty memory; the rate is gamma p.

{responses([f"{loss:g}" for loss in LOSSES], rows, ".4f")}

{verdict(rows)}

## Limits

For SGD without momentum (family sgd). With another optimizer pass `peak=`, the maximum learning
rate.
"""


def outputs(learned: Learned) -> list[list[float]]:
    """Return the settled output of each stage at each of `LOSSES`."""
    return [[settled(weights, loss) for loss in LOSSES] for weights in learned.stages]


def rule(learned: Learned) -> str:
    """Return in words where gamma comes from."""
    if not isinstance(learned.gamma, InitialLossGamma):
        return f"gamma is {learned.gamma:g} throughout; the authors compute it again at each stage."
    classes = learned.gamma.num_classes
    first = f"gamma is computed for C = {classes} classes from the loss of the first step"
    if learned.gamma.recomputed:
        return f"{first}, and again at each later stage from the mean loss of the stage before."
    return f"{first}, and stays; the authors compute it again at each stage."


def verdict(rows: Sequence[Sequence[float]]) -> str:
    """Return in words whether the stages, with these outputs at `LOSSES`, listen to the loss."""
    widest = max(map(ratio, rows))
    levels = ", ".join(f"{row[1]:.4f}" for row in rows)
    if widest < CONSTANT:
        return (
            f"In effect these are three constants, {levels}: the loss changes the output by "
            f"{widest - 1:.0%} at most."
        )
    most = f"by up to {widest - 1:.0%}" if math.isfinite(widest) else "from zero"
    return f"The loss changes the output {most}; at loss {LOSSES[1]}: {levels}."
