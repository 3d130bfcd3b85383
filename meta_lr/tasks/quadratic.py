"""A noisy quadratic of known curvature: a task with a solution that can be computed by hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from meta_lr import seeds
from meta_lr.tasks.base import SPLITS, Batch, Split


class Point(nn.Module):
    """One parameter vector `weight`, (dim,): the point on the quadratic."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start)

    def forward(self, noise: Tensor) -> Tensor:
        """Return the point once per row of `noise`, (batch, dim)."""
        return self.weight.expand(len(noise), -1)


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """A `Task`: loss(w) = (w - w*)' H (w - w*) / 2 + n'(w - w*), with n the batch's mean noise.

    The gradient is therefore H (w - w*) + n, the Hessian is H, and the loss without noise is 0 at
    w*. The eigenvalues of H fall from 1 to 1 / `condition` in equal ratios along random directions.
    Gradient descent without noise is stable for learning rates below 2, and fastest at
    2 / (1 + 1 / `condition`). H and w* are the same for every seed.

    A batch is (noise, optimum), both (batch, dim); in `val` and `test` it is one row without
    noise.

    Args:
        dim: Number of parameters.
        condition: Largest over smallest eigenvalue of H, at least 1.
        noise: Standard deviation of each component of one example's noise; that of the batch's mean
            is `noise / sqrt(batch_size)`.
        batch_size: Examples per batch.
        steps_per_epoch: Batches in one pass over `train` or `meta`; the batches never repeat.
        seed: The run's seed, for the starting point and the noise.

    Raises:
        ValueError: An argument is out of range.
    """

    dim: int = 10
    condition: float = 100.0
    noise: float = 0.1
    batch_size: int = 8
    steps_per_epoch: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for argument in ("dim", "batch_size", "steps_per_epoch", "condition"):
            if not getattr(self, argument) >= 1:
                value = getattr(self, argument)
                raise ValueError(f"quadratic got {argument}={value}; it must be at least 1")
        if not self.noise >= 0:
            raise ValueError(f"quadratic got noise={self.noise}; it must be at least 0")

    @property
    def name(self) -> str:
        """Short name for records."""
        return "quadratic"

    @property
    def num_classes(self) -> int:
        """Return 0: there are no classes."""
        return 0

    @cached_property
    def hessian(self) -> Tensor:
        """H, (dim, dim), symmetric, float64."""
        exponents = torch.linspace(0, -1, self.dim, dtype=torch.float64)
        square = _normal("hessian", self.dim, self.dim)
        directions = torch.linalg.qr(square).Q
        hessian = (directions * self.condition**exponents) @ directions.T
        return (hessian + hessian.T) / 2

    @cached_property
    def optimum(self) -> Tensor:
        """w*, (dim,), float64."""
        return _normal("optimum", self.dim)

    def model(self) -> Point:
        """Return a point a standard normal step away from w*, a pure function of the seed."""
        start = self.optimum + _normal("init", self.dim, seed=self.seed)
        return Point(start.to(torch.get_default_dtype()))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the quadratic plus the batch's noise, shape ()."""
        noise, optimum = batch
        error = model(noise) - optimum
        return self._energy(error) + (noise * error).sum(dim=1).mean()

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` without noise."""
        noise, optimum = batch
        return {"loss": self._energy(model(noise) - optimum)}

    def num_batches(self, split: Split) -> int:
        """Return `steps_per_epoch` for `train` and `meta`, 1 for `val` and `test`."""
        if split not in SPLITS:
            raise ValueError(f"{split!r} is no split; choose one of {', '.join(SPLITS)}")
        return self.steps_per_epoch if split in ("train", "meta") else 1

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return (noise, optimum), both (batch, dim), a pure function of seed and arguments."""
        finite = split in ("val", "test")
        last = self.num_batches(split) - 1
        if (
            index < 0
            or (draw is not None and draw < 0)
            or (finite and draw is None and index > last)
        ):
            raise ValueError(f"quadratic has no batch {index}, draw {draw}, in split {split!r}")
        dtype = torch.get_default_dtype()
        if finite:
            noise = torch.zeros(1, self.dim, dtype=dtype)
        else:
            names = (split, index) if draw is None else (split, index, draw)
            drawn = _normal("noise", self.batch_size, self.dim, seed=self.seed, names=names)
            noise = (self.noise * drawn).to(dtype)
        return noise, self.optimum.to(dtype).expand(len(noise), -1)

    def _energy(self, error: Tensor) -> Tensor:
        hessian = self.hessian.to(error)
        return ((error @ hessian) * error).sum(dim=1).mean() / 2


def _normal(what: str, *shape: int, seed: int = 0, names: tuple[str | int, ...] = ()) -> Tensor:
    """Draw standard normal numbers in float64, so that float32 runs use the same numbers."""
    generator = seeds.generator(seed, what, *names)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
