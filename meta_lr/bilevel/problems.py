"""Inner problems: short training runs with varied models, data and optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import NamedTuple, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from meta_lr.bilevel.draw import Draw
from meta_lr.seeds import derive, generator
from meta_lr.tasks.base import Split, Task
from meta_lr.tasks.clusters import clusters
from meta_lr.tasks.digits import digits
from meta_lr.tasks.images import ImageTask
from meta_lr.tasks.models.mlp import MLP

# Name -> factory of the optimizer, and the scale of its learning rates in units of plain SGD's.
OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], float]] = {
    "sgd": (torch.optim.SGD, 1.0),
    "sgd_momentum": (partial(torch.optim.SGD, momentum=0.9), 0.1),
    "adam": (torch.optim.Adam, 0.01),
}


# Name -> the task whose subsets are the problems; all data sets ship with scikit-learn.
DATA: dict[str, Callable[..., ImageTask]] = {"digits": digits, "clusters": clusters}


class Problem(NamedTuple):
    """One training run that the schedule controls."""

    name: str
    task: Task
    make_optimizer: Callable[[Sequence[nn.Parameter]], Optimizer]
    total_steps: int
    family: str = ""  # of similar problems; scores are compared by family
    unit: float = 1.0  # this optimizer's learning rate that corresponds to 1 of plain SGD


class Problems(Protocol):
    """A distribution of inner problems, numbered from 0; each is a pure function of its number."""

    @property
    def name(self) -> str:
        """Name of the distribution."""
        ...

    def __call__(self, index: int, seed: int = 0) -> Problem:
        """Return the problem of this number; another seed gives other weights and batches."""
        ...


# The ranges in which values are drawn log-uniformly.
_LOGARITHMIC = ("widths", "lengths", "scales")


@dataclass(frozen=True)
class DigitsProblems:
    """MLPs on scikit-learn's digits, each on its own subset.

    Pairs are ranges. Widths, lengths and initial scales are drawn log-uniformly, the other ranges
    uniformly. From a list, one value is chosen at random.

    Args:
        name: Name of the family; families with different names share no problem.
        data: Name in `DATA`.
        widths: Units of each hidden layer.
        depths: Number of hidden layers.
        subsets: Share of the training images.
        label_noise: Share of the training labels that are replaced with another class.
        batch_sizes: Examples per batch.
        lengths: Run length, in optimizer steps.
        scales: Factor of the initial weights.
        optimizers: Names in `OPTIMIZERS`; the learning rate is scaled for each.
    """

    name: str = "digits"
    data: str = "digits"
    widths: tuple[int, int] = (8, 64)
    depths: tuple[int, int] = (1, 2)
    subsets: tuple[float, float] = (0.2, 1.0)
    label_noise: tuple[float, float] = (0.0, 0.3)
    batch_sizes: tuple[int, ...] = (16, 32, 64)
    lengths: tuple[int, int] = (50, 400)
    scales: tuple[float, float] = (0.5, 2.0)
    optimizers: tuple[str, ...] = ("sgd", "sgd_momentum", "adam")
    meta_size: int = field(default=180, kw_only=True)

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if isinstance(value, list):  # configurations give lists
                object.__setattr__(self, key, tuple(value))
        unknown = [name for name in self.optimizers if name not in OPTIMIZERS]
        if unknown or not self.optimizers:
            raise ValueError(f"optimizers={list(self.optimizers)}; known are {list(OPTIMIZERS)}")
        if self.data not in DATA:
            raise ValueError(f"data={self.data}; known are {list(DATA)}")
        for key in ("widths", "lengths", "scales", "depths", "subsets", "label_noise"):
            refuse_range(key, getattr(self, key), positive=key in _LOGARITHMIC)

    def __call__(self, index: int, seed: int = 0) -> Problem:
        """Return the problem of this number; another seed gives other weights and batches."""
        draw = Draw(generator(0, "problem", self.name, index))
        hidden = (draw.log_integer(self.widths),) * draw.integer(self.depths)
        network = partial(scaled_mlp, hidden=hidden, scale=draw.log(self.scales))
        kind = draw.choice(self.optimizers)
        make, scale = OPTIMIZERS[kind]
        share, batch_size = draw.uniform(self.subsets), draw.choice(self.batch_sizes)
        everything = whole(self.data, self.meta_size)
        task = replace(
            everything,
            splits=part(everything, share, batch_size, generator(0, "part", self.name, index)),
            network=network,
            batch_size=batch_size,
            noise="uniform",
            noise_share=draw.uniform(self.label_noise),
            seed=derive(seed, "problem", self.name, index),
        )
        return Problem(
            f"{self.name}-{index}",
            task,
            partial(_scaled, make, scale),
            draw.log_integer(self.lengths),
        )


def refuse_range(key: str, bounds: Sequence[float], *, positive: bool) -> None:
    """Raise a ValueError unless `bounds` are a finite range."""
    low, high = bounds
    if not (0 < low if positive else 0 <= low) or not low <= high < math.inf:
        least = "above 0" if positive else "at least 0"
        raise ValueError(f"{key}={list(bounds)}; needed are [lowest, highest], {least} and finite")


def scaled_mlp(*, hidden: Sequence[int], scale: float, **shape: int) -> nn.Module:
    """Return an MLP whose initial weights are multiplied by `scale`."""
    model = MLP(hidden=hidden, **shape)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        torch._foreach_mul_(list(model.parameters()), scale)
    return model


def _scaled(
    make: Callable[..., Optimizer], scale: float, params: Sequence[nn.Parameter]
) -> Optimizer:
    return make([{"params": list(params), "lr_scale": scale}], lr=scale)


@lru_cache
def whole(data: str, meta_size: int) -> ImageTask:
    """Return the whole task, whose subsets are the problems."""
    return DATA[data](MLP, meta_size=meta_size)


def part(
    task: ImageTask, share: float, least: int, g: torch.Generator
) -> dict[Split, torch.Tensor]:
    """Return the splits with a share of the training images, at least `least` of them."""
    train = task.splits["train"]
    kept = train[torch.randperm(len(train), generator=g)]
    return {**task.splits, "train": kept[: max(least, round(share * len(train)))].sort().values}
