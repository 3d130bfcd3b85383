"""The held-out families, fixed before any schedule is judged on them.

No meta-training and no choice of a schedule reads this file. Each family differs from those of
meta-training (`meta_lr.bilevel.varied`) in its kind of network, in its size or in its data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.scorecard import tasks
from benchmarks.scorecard.networks import Autoencoder, Recurrent, Residual, Transformer
from meta_lr.bilevel.draw import Draw
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.varied import KINDS
from meta_lr.seeds import derive, generator
from meta_lr.tasks.models.mlp import MLP
from meta_lr.tasks.models.small import GELUMLP, SmallConv

LENGTHS = (100, 800)  # optimizer steps, drawn log-uniformly
BATCHES, TEXTS = (16, 32, 64), (8, 16)  # examples per batch; windows of text
Made = tuple[tuple[Tensor, Tensor], Callable[[], nn.Module], Callable[[Tensor, Tensor], Tensor]]

_DIGITS = {"in_channels": 1, "image_size": 8, "num_classes": 10}


def wide(draw: Draw, number: int) -> Made:
    """MLPs of 256 units, four times as wide as any in meta-training."""
    hidden = (256,) * draw.integer((2, 3))
    return tasks.digits(), partial(MLP, hidden=hidden, **_DIGITS), F.cross_entropy


def deep(draw: Draw, number: int) -> Made:
    """MLPs of six to eight hidden layers, twice as deep as any in meta-training."""
    hidden = (32,) * draw.integer((6, 8))
    network = partial(GELUMLP, hidden=hidden, **_DIGITS)
    return tasks.digits(), network, F.cross_entropy


def plain_conv(draw: Draw, number: int) -> Made:
    """Convolutions without normalisation, deeper and wider than any in meta-training."""
    channels = (16,) * draw.integer((4, 5))
    return tasks.digits(), partial(SmallConv, channels=channels, **_DIGITS), F.cross_entropy


def residual(draw: Draw, number: int) -> Made:
    """Residual networks with GroupNorm."""
    network = partial(Residual, channels=8, blocks=draw.integer((1, 2)), num_classes=10)
    return tasks.digits(), network, F.cross_entropy


def transformer(draw: Draw, number: int) -> Made:
    """Causal transformers on text."""
    network = partial(
        Transformer,
        symbols=tasks.SYMBOLS,
        context=tasks.CONTEXT,
        width=24,
        heads=2,
        layers=draw.integer((1, 2)),
    )
    return tasks.text(number), network, tasks.of_symbols


def recurrent(draw: Draw, number: int) -> Made:
    """Gated recurrent units on text."""
    network = partial(Recurrent, symbols=tasks.SYMBOLS, width=draw.choice((24, 48)))
    return tasks.text(number), network, tasks.of_symbols


def regression(draw: Draw, number: int) -> Made:
    """MLPs that fit the outputs of a random network on points."""
    network = partial(
        MLP, in_channels=16, image_size=1, num_classes=2, hidden=(draw.choice((32, 64)),) * 2
    )
    return tasks.taught(number), network, F.mse_loss


def autoencoder(draw: Draw, number: int) -> Made:
    """Autoencoders of images."""
    images = tasks.digits()[0].flatten(1)
    network = partial(Autoencoder, inputs=64, hidden=48, code=draw.choice((4, 12)))
    return (images, images), network, F.mse_loss


def table(draw: Draw, number: int) -> Made:
    """Small MLPs on a medical table of two classes."""
    network = partial(
        MLP, in_channels=30, image_size=1, num_classes=2, hidden=(draw.choice((8, 32)),)
    )
    return tasks.tumours(), network, F.cross_entropy


FAMILIES: dict[str, Callable[[Draw, int], Made]] = {
    made.__name__: made
    for made in (
        wide,
        deep,
        plain_conv,
        residual,
        transformer,
        recurrent,
        regression,
        autoencoder,
        table,
    )
}


def problem(family: str, number: int, seed: int) -> Problem:
    """Return a problem of a family; the seed determines the weights and the batches."""
    draw = Draw(generator(0, "scorecard", family, number))
    (inputs, targets), network, measure = FAMILIES[family](draw, number)
    make, unit = KINDS[draw.choice(tuple(KINDS))]
    batches = TEXTS if measure is tasks.of_symbols else BATCHES
    task = tasks.ArrayTask(
        f"{family}-{number}", inputs, targets, network, measure, draw.choice(batches),
        derive(seed, "scorecard", family, number),
    )  # fmt: skip
    steps = draw.log_integer(LENGTHS)
    return Problem(task.name, task, partial(make, lr=unit), steps, family=family, unit=unit)
