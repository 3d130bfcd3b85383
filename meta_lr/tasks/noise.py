"""Label noise: a known share of the labels is made wrong, in a known way."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from meta_lr import seeds

Noise = Literal["none", "uniform", "flip"]
"""The kind of label noise; `share` is the share of wrong labels, C the number of classes.

* `none`: all labels are correct.
* `uniform`: a wrong label is one of the *other* classes, each with the same probability. This is
  called symmetric noise: the transition matrix has 1 - share on its diagonal and share / (C - 1)
  elsewhere (Patrini et al. 2017, arXiv 1609.03683). MLR-SNet's published code also draws the
  correct class; its share s is s (1 - 1/C) here.
* `flip`: a wrong label is class (c + 1) mod C instead of c. This is called pair flip (Han et al.
  2018, arXiv 1804.06872). If the share is above 1/2, the wrong class is more frequent than the
  correct one.
"""


def refuse_unknown(task: str, noise: str, share: float) -> None:
    """Raise a ValueError unless the kind and the share of the noise are valid together."""
    if noise not in get_args(Noise):
        kinds = ", ".join(get_args(Noise))
        raise ValueError(f"{task} got noise={noise}; choose one of {kinds}")
    if not 0 <= share <= 1:
        raise ValueError(f"{task} got noise_share={share}; it must be in [0, 1]")
    if noise == "none" and share:
        raise ValueError(f"{task} got noise=none with noise_share={share}; choose uniform or flip")


def named(task: str, noise: Noise, share: float) -> str:
    """Return the task's name with its noise, if any; noisy labels make a different problem."""
    return f"{task}-{noise}-{share:g}" if share and noise != "none" else task


def noisy(
    labels: Tensor, members: Tensor, *, noise: Noise, share: float, num_classes: int, seed: int
) -> Tensor:
    """Return a copy of the labels in which `round(share * len(members))` of `members` are wrong.

    The selection of labels, and the draws of `uniform`, are pure functions of the arguments. A
    larger share makes the same labels wrong, and additional ones.

    Args:
        labels: int64, (examples,), from 0 to `num_classes - 1`.
        members: Indices of the examples that may become wrong, (members,).
        noise: The kind of noise.
        share: Share of wrong labels, in [0, 1].
        num_classes: C.
        seed: The run's seed.
    """
    result = labels.clone()
    if noise == "none":
        return result
    generator = seeds.generator(seed, "noise", noise)
    order = torch.randperm(len(members), generator=generator)
    steps = torch.ones_like(order)
    if noise == "uniform":
        steps = torch.randint(1, num_classes, order.shape, generator=generator)
    count = round(share * len(members))
    wrong = members[order[:count]]
    result[wrong] = (labels[wrong] + steps[:count]) % num_classes
    return result
