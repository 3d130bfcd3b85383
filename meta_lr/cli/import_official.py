"""`meta-lr import-official A B C --out DIR`: the authors' three files as a checkpoint."""

from __future__ import annotations

import argparse
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meta_lr.cli.flags import Parser

if TYPE_CHECKING:
    from meta_lr.methods.mlr_snet.learned import Learned

LOSSES = (0.01, 0.3, 2.3, 4.6)  # nats, at which the card shows each stage
CLASSES = 10  # of CIFAR-10, on which the authors' tables are
CONSTANT = 1.2  # a stage whose largest output is below this times its smallest is a constant

_CARD = """\
---
license: unknown
library_name: meta_lr
tags: [learning-rate, meta-learning]
---

# The official MLR-SNet

The three schedulers that the authors of MLR-SNet published, imported. Paper: {paper};
IEEE TPAMI, DOI 10.1109/TPAMI.2022.3184315. The weights are theirs. No licence came with them, so
meta_lr does not distribute them: do not pass this folder on.

```python
learned = meta_lr.load_pretrained("{place}")
scheduler = meta_lr.ControlledLR(optimizer, learned, total_steps=len(loader) * epochs)
```

## What the files are

{files}

Each holds one LSTM cell of 11,776 weights. They are read with the cell of the authors' meta-test
code: gates in the order i, f, g, o, and no forget offset. The cell of their meta-training code
loads them too, without an error, and gives other rates. As far as can be told they were kept after
epochs 1, 100 and 200 of a run on CIFAR-10 with ResNet-18 and SGD without momentum; the files do not
say so, and they match neither training script that was published.

## The transfer rule

Each stage steers a third of the run, in steps; the memory is carried over.
{rule}

With L the loss and C the number of classes, the authors' formula is
gamma = |sqrt(L) ln(L C)| / (4 C^(1/4)), with L from a pass over the whole training set. It is zero
at L = 1/C and rises again below, so here L counts as e/C where it is smaller.

## What it does with the loss

The output p after 60 steps at a constant loss, from an empty memory; the rate is gamma p.

| loss | {levels} | largest / smallest |
|---|{rules}|---|
{responses}

{verdict}

## Limits

For SGD without momentum (family sgd); with another optimizer pass `peak=`, the rate at full output.
"""


def import_official(arguments: list[str]) -> int:
    """Write the checkpoint as `arguments` say; print what it does and how to use it."""
    options = _options(arguments)
    from meta_lr import checkpoint
    from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
    from meta_lr.methods.mlr_snet.learned import Learned
    from meta_lr.methods.mlr_snet.official import CELL, read

    gamma = options.gamma
    if gamma is None:
        gamma = InitialLossGamma(options.classes, recomputed=not options.frozen)
    learned = Learned(CELL, [read(path) for path in options.files], gamma, family="sgd")
    contract = checkpoint.save(
        options.out,
        learned,
        trained_on=_origin(options.files),
        card=_card(options, learned),
        license="unknown",
    )
    print(f"checkpoint: {options.out} ({contract['fingerprint']})")
    print(_summary(options, learned))
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.frozen and options.gamma is not None:
        parser.error("--frozen is about the formula, and --gamma is a number that stays anyway")
    if options.classes is None:  # not argparse's default: it would pass --classes 10 beside --gamma
        options.classes = CLASSES
    return options


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="meta-lr import-official",
        description="Write a checkpoint from the three scheduler files that the authors of "
        "MLR-SNet published. They are not part of meta_lr: fetch them from the authors' "
        "repository, xjtushujun/MLR-SNet on GitHub, folder meta-test.",
    )
    parser.add_argument(
        "files", nargs=3, type=Path, metavar="FILE", help="those of epochs 1, 100 and 200, in order"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    gamma = parser.add_mutually_exclusive_group()
    gamma.add_argument(
        "--classes",
        type=int,
        metavar="C",
        help="of the task to come: gamma, the rate at full output, follows by the authors' formula "
        f"from C and from the loss, anew in each third of the run (default: {CLASSES})",
    )
    gamma.add_argument(
        "--gamma", type=float, metavar="RATE", help="a rate at full output, instead of the formula"
    )
    parser.add_argument(
        "--frozen", action="store_true", help="compute gamma once, at the start of the run"
    )
    return parser


def _origin(files: list[Path]) -> dict[str, Any]:
    """Return what is known of the meta-training: which files these are, and little else."""
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return {
        "task": "unknown; probably CIFAR-10",
        "model": "unknown; probably ResNet-18",
        "optimizer": "sgd",
        "seed": None,
        "commit": None,
        "steps": None,
        "cost": None,
        "licence": "none came with the files",
        "files": [{"name": p.name, "sha256": h} for p, h in zip(files, hashes, strict=True)],
    }


def _card(options: argparse.Namespace, learned: Learned) -> str:
    from meta_lr.checkpoint import PAPER
    from meta_lr.cli.card import ratio

    rows = _responses(learned)
    return _CARD.format(
        paper=PAPER,
        place=options.out.as_posix(),
        files="\n".join(f"{i}. `{path.name}`" for i, path in enumerate(options.files, 1)),
        rule=_rule(options),
        levels=" | ".join(f"{loss:g}" for loss in LOSSES),
        rules="|".join("---" for _ in LOSSES),
        responses="\n".join(
            f"| stage {i} | {' | '.join(f'{p:.4f}' for p in row)} | {ratio(row):.3f} |"
            for i, row in enumerate(rows, 1)
        ),
        verdict=_verdict(rows),
    )


def _responses(learned: Learned) -> list[list[float]]:
    """Return the settled output of each stage at each of `LOSSES`."""
    from meta_lr.methods.mlr_snet.official import settled

    return [[settled(weights, loss) for loss in LOSSES] for weights in learned.stages]


def _rule(options: argparse.Namespace) -> str:
    if options.gamma is not None:
        return f"gamma is {options.gamma:g} throughout; the authors compute it anew at each stage."
    first = f"gamma is computed for C = {options.classes} classes from the loss of the first step"
    if options.frozen:
        return f"{first}, and stays; the authors compute it anew at each stage."
    return f"{first}, and anew at each later stage from the mean loss of the stage before."


def _verdict(rows: list[list[float]]) -> str:
    """Return in words whether the stages listen to the loss."""
    from meta_lr.cli.card import ratio

    widest = max(map(ratio, rows))
    levels = ", ".join(f"{row[1]:.4f}" for row in rows)
    if widest < CONSTANT:
        return (
            f"In effect these are three constants, {levels}: the loss changes the output by "
            f"{widest - 1:.0%} at most."
        )
    most = f"by up to {widest - 1:.0%}" if math.isfinite(widest) else "from zero"
    return f"The loss changes the output {most}; at loss {LOSSES[1]}: {levels}."


def _summary(options: argparse.Namespace, learned: Learned) -> str:
    rows = _responses(learned)
    width = max(len(path.name) for path in options.files)
    stages = [
        f"stage {i}  {path.name:{width}}  output {row[1]:.4f} at loss {LOSSES[1]}"
        for i, (path, row) in enumerate(zip(options.files, rows, strict=True), 1)
    ]
    use = f'optimizer, meta_lr.load_pretrained("{options.out}"), total_steps=...'
    return "\n".join(
        [
            *stages,
            _verdict(rows),
            _rule(options),
            "no licence came with the authors' files: keep the checkpoint to yourself",
            f"use it:  meta_lr.ControlledLR({use})",
            f"try it:  meta-lr train lr=learned lr.name={options.out} optimizer=sgd_plain",
        ]
    )
