"""The larger tasks, fixed before any schedule is judged on them.

No meta-training and no choice of a schedule reads this file. The data are files of the user:
CIFAR-10 and Tiny ImageNet as `task=image_folder` reads them, and a plain text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.scorecard.networks import LSTM, Transformer
from benchmarks.scorecard.tasks import ArrayTask, of_symbols
from meta_lr.bilevel.problems import Problem
from meta_lr.seeds import derive
from meta_lr.tasks import image_folder
from meta_lr.tasks.base import Task
from meta_lr.tasks.models import CNN3, ResNet

OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], float]] = {
    "sgd_momentum": (partial(torch.optim.SGD, momentum=0.9, weight_decay=5e-4), 0.1),
    "adamw": (torch.optim.AdamW, 0.01),
}
_WINDOWS = 16  # windows of text in a batch
CONTEXT, LETTERS = 48, 400_000  # characters: in one window; in all


@dataclass(frozen=True)
class Files:
    """The paths of the data.

    Args:
        cifar10: A folder or archive of `train/CLASS/` and `test/CLASS/`.
        tiny_imagenet: The same, of 64 x 64 pixels.
        text: A plain text, at least 200,000 characters.
    """

    cifar10: Path
    tiny_imagenet: Path
    text: Path


def _images(
    root: Path, network: Callable[..., nn.Module], seed: int, *, size: int = 32, batch: int = 128
) -> Task:
    return image_folder(root, network, size=size, batch_size=batch, seed=seed)


def _language(text: Path, network: Callable[..., nn.Module], seed: int) -> Task:
    inputs, targets, symbols = windows(text)
    made = partial(network, symbols=symbols)
    return ArrayTask(text.stem, inputs, targets, made, of_symbols, _WINDOWS, derive(seed, "text"))


@cache
def windows(text: Path) -> tuple[Tensor, Tensor, int]:
    """Return windows (examples, CONTEXT) of a text, the same one character later, and a count.

    The count is the number of different characters.
    """
    letters = text.read_text(encoding="utf-8")[:LETTERS]
    places = {letter: place for place, letter in enumerate(sorted(set(letters)))}
    ids = torch.tensor([places[letter] for letter in letters])
    whole = ids[: len(ids) // CONTEXT * CONTEXT + 1]
    found = whole.unfold(0, CONTEXT + 1, CONTEXT)
    return found[:, :-1].contiguous(), found[:, 1:].contiguous(), len(places)


def cnn3(files: Files, seed: int) -> Task:
    """CNN3 on CIFAR-10."""
    return _images(files.cifar10, CNN3, seed)


def resnet8(files: Files, seed: int) -> Task:
    """ResNet-8 on CIFAR-10."""
    return _images(files.cifar10, partial(ResNet, depth=8), seed)


def transformer(files: Files, seed: int) -> Task:
    """A causal transformer on characters."""
    network = partial(Transformer, context=CONTEXT, width=64, layers=2, heads=4)
    return _language(files.text, network, seed)


def lstm(files: Files, seed: int) -> Task:
    """An LSTM on characters."""
    return _language(files.text, partial(LSTM, width=128), seed)


def tiny_imagenet(files: Files, seed: int) -> Task:
    """CNN3 on Tiny ImageNet."""
    return _images(files.tiny_imagenet, CNN3, seed, size=64, batch=32)


# Name -> a function that makes the task from files and a seed, and its number of steps.
TASKS: dict[str, tuple[Callable[[Files, int], Task], int]] = {
    "cnn3": (cnn3, 400),
    "resnet8": (resnet8, 400),
    "transformer": (transformer, 600),
    "lstm": (lstm, 600),
    "tiny_imagenet": (tiny_imagenet, 400),
}


def problem(files: Files, name: str, optimizer: str, seed: int) -> Problem:
    """Return a larger task with one of `OPTIMIZERS`; the seed is for the weights and batches."""
    make, steps = TASKS[name]
    kind, unit = OPTIMIZERS[optimizer]
    family = f"{name} {optimizer}"
    return Problem(
        family, make(files, seed), partial(kind, lr=unit), steps, family=family, unit=unit
    )
