"""Small texts for the tests: one of numbers that say where they stand, one at random."""

from __future__ import annotations

import functools

import torch

from meta_lr.tasks import SPLITS, TextTask
from meta_lr.tasks.models import LSTMLanguageModel

TINY = functools.partial(LSTMLanguageModel, width=4, layers=1, dropout=0.0)
SGD = functools.partial(torch.optim.SGD, lr=0.1)
BEFORE = 180


def counting(**changes):
    """A text of the numbers from 0 to 179, so that a token says where it stands."""
    arguments = {
        "name": "counting",
        "num_classes": BEFORE + 1,
        "network": TINY,
        "parts": dict(zip(SPLITS, torch.arange(BEFORE).split([100, 23, 25, 32]), strict=True)),
        "before": BEFORE,
        "batch_size": 3,
        "length": 5,
        "warm": 7,
        "seed": 0,
    }
    return TextTask(**{**arguments, **changes})


def talk(**changes):
    """A short random text of five tokens, for models."""
    g = torch.Generator().manual_seed(3)
    parts = dict(zip(SPLITS, torch.randint(0, 5, (240,), generator=g).split(60), strict=True))
    arguments = {"num_classes": 5, "before": 1, "parts": parts, "batch_size": 4, "warm": 3}
    return counting(**{**arguments, **changes})
