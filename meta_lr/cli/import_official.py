"""`meta-lr import-official A B C --out DIR`: the authors' three files as a checkpoint."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from meta_lr.cli.flags import Parser

CLASSES = 10  # of CIFAR-10, on which the authors' tables are


def import_official(arguments: list[str]) -> int:
    """Write the checkpoint as `arguments` say; print what it does and how to use it."""
    options = _options(arguments)
    from meta_lr import checkpoint
    from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
    from meta_lr.methods.mlr_snet.learned import Learned
    from meta_lr.methods.mlr_snet.official import CELL, read
    from meta_lr.report import official_card

    files, out, gamma = options.files, options.out, options.gamma
    if gamma is None:
        classes = CLASSES if options.classes is None else options.classes
        gamma = InitialLossGamma(classes, recomputed=not options.frozen)
    learned = Learned(CELL, [read(path) for path in files], gamma, family="sgd")
    card = official_card.card(learned, files, out)
    origin = _origin(files)
    contract = checkpoint.save(out, learned, trained_on=origin, card=card, license="unknown")
    print(f"checkpoint: {out} ({contract['fingerprint']})")
    rows = official_card.outputs(learned)
    width = max(len(path.name) for path in files)
    for i, (path, row) in enumerate(zip(files, rows, strict=True), 1):
        told = f"output {row[1]:.4f} at loss {official_card.LOSSES[1]}"
        print(f"stage {i}  {path.name:{width}}  {told}")
    print(official_card.verdict(rows))
    print(official_card.rule(learned))
    print("no licence came with the authors' files: keep the checkpoint to yourself")
    use = f'optimizer, meta_lr.load_pretrained("{out}"), total_steps=...'
    print(f"use it:  meta_lr.ControlledLR({use})")
    print(f"try it:  meta-lr train lr=learned lr.name={out} optimizer=sgd_plain")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
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
        help="number of classes of the new task; the authors' formula gives gamma, the maximum "
        f"learning rate, from C and the loss in each third of the run (default: {CLASSES})",
    )
    gamma.add_argument(
        "--gamma",
        type=float,
        metavar="RATE",
        help="a maximum learning rate, instead of the formula",
    )
    parser.add_argument(
        "--frozen", action="store_true", help="compute gamma once, at the start of the run"
    )
    options = parser.parse_args(arguments)
    if options.frozen and options.gamma is not None:
        parser.error("--frozen is about the formula, and --gamma is a number that stays anyway")
    return options


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
