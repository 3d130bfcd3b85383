"""Inner problems of many kinds, with varied networks, losses, initial weights and optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from meta_lr.bilevel.draw import Draw
from meta_lr.bilevel.problems import DATA, OPTIMIZERS, Problem, part, refuse_range, whole
from meta_lr.seeds import derive, generator
from meta_lr.tasks.base import Batch
from meta_lr.tasks.images import ImageTask
from meta_lr.tasks.models.mlp import MLP
from meta_lr.tasks.models.small import GELUMLP, Activation, RowAttention, SmallConv, TanhMLP

# Name -> factory of the optimizer, and its learning rate that corresponds to 1 of plain SGD.
KINDS: dict[str, tuple[Callable[..., Optimizer], float]] = {
    **{name: OPTIMIZERS[name] for name in ("sgd", "sgd_momentum")},
    "nesterov": (partial(torch.optim.SGD, momentum=0.9, nesterov=True), 0.1),
    "adam": OPTIMIZERS["adam"],
    "adamw": (torch.optim.AdamW, 0.01),
    "rmsprop": (torch.optim.RMSprop, 0.01),
}
_LARGE = 16  # largest batch for networks other than an MLP, unless all batch sizes are larger
# Factors of the initial weights. torch's own initial weights are small already: with a factor of
# 1/2, a network of several layers starts on a plateau, where the loss hardly changes at first.
_SCALES = {"torch": (0.5, 1.0), "relu": (0.5, 2.0), "linear": (0.5, 2.0)}
_DECAYS = (0.0, 0.0, 1e-4, 1e-2)
_ACTIVATIONS: tuple[Activation, ...] = (nn.ReLU, nn.ReLU, nn.GELU, nn.Tanh)


def squared(logits: Tensor, labels: Tensor) -> Tensor:
    """Return half of the squared distance to the one-hot labels, averaged over examples, ()."""
    wanted = F.one_hot(labels, logits.shape[-1])
    return 0.5 * (logits - wanted).pow(2).sum(-1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "smoothed": partial(F.cross_entropy, label_smoothing=0.1),
    "squared": squared,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class VariedTask(ImageTask):
    """An `ImageTask` whose loss is one of `LOSSES`, times a factor."""

    objective: str = "cross_entropy"
    factor: float = 1.0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss ()."""
        images, labels = batch
        return self.factor * LOSSES[self.objective](model(images), labels)


@dataclass(frozen=True)
class VariedProblems:
    """Small networks of several kinds, each on its own subset of a data set.

    These are also drawn: the activation; the initial weights (torch's, times 1/2 to 1; He's for
    ReLU or for linear layers, times 1/2 to 2); a factor of 1/3 to 3 in front of some tensors; the
    loss (cross-entropy, cross-entropy with smoothed labels, or squared error) and its factor of
    0.1, 1 or 10; the weight decay; the size of the subset; and the share of wrong labels.

    Args:
        name: Name of the distribution; distributions with different names share no problem.
        data: Names in `DATA`; one is drawn per problem.
        networks: Some of "mlp", "deep" (an MLP of five to seven layers), "conv" and "attention";
            one is drawn per problem. A name that is given twice is drawn twice as often. The kind
            of network is a problem's family.
        lengths: Range of the run length in optimizer steps, drawn log-uniformly.
        batch_sizes: Examples per batch; one is drawn per problem.
        optimizers: Names in `KINDS`; one is drawn per problem.
    """

    name: str = "varied"
    data: tuple[str, ...] = ("digits", "clusters")
    networks: tuple[str, ...] = ("mlp", "mlp", "conv", "attention")
    lengths: tuple[int, int] = (60, 1000)
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128)
    optimizers: tuple[str, ...] = tuple(KINDS)
    meta_size: int = field(default=180, kw_only=True)

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if isinstance(value, list):  # configurations give lists
                object.__setattr__(self, key, tuple(value))
        for key, known in (("data", DATA), ("networks", _NETWORKS), ("optimizers", KINDS)):
            chosen = getattr(self, key)
            if not chosen or not set(chosen) <= set(known):
                raise ValueError(f"{key}={list(chosen)}; known are {', '.join(known)}")
        refuse_range("lengths", self.lengths, positive=True)

    def __call__(self, index: int, seed: int = 0) -> Problem:
        """Return the problem of this number; another seed draws other weights and batches."""
        draw = Draw(generator(0, "problem", self.name, index))
        family = draw.choice(self.networks)
        make, initial = _NETWORKS[family](draw), draw.choice(("torch", "torch", "relu", "linear"))
        network = partial(
            varied_network,
            make=make,
            initial=initial,
            scale=draw.log(_SCALES[initial]),
            factors=_factors(draw),
        )
        kind = draw.choice(self.optimizers)
        make, unit = KINDS[kind]
        decay = 0.0 if kind == "sgd" else draw.choice(_DECAYS)
        return Problem(
            f"{self.name}-{family}-{index}",
            self._task(draw, network, index, seed, mlp=family == "mlp"),
            partial(make, lr=unit, weight_decay=decay),
            draw.log_integer(self.lengths),
            family=family,
            unit=unit,
        )

    def _task(
        self, draw: Draw, network: Callable[..., nn.Module], index: int, seed: int, *, mlp: bool
    ) -> VariedTask:
        """Return a subset of one of the data sets, with its own loss."""
        data = draw.choice(self.data)
        batch_size = draw.choice(
            [b for b in self.batch_sizes if mlp or b <= _LARGE] or self.batch_sizes
        )
        base, share = whole(data, self.meta_size), draw.log((0.4, 1.0))
        drawn = {
            "splits": part(base, share, batch_size, generator(0, "part", self.name, index)),
            "network": network,
            "batch_size": batch_size,
            "noise": "uniform",
            "noise_share": draw.choice((0.0, 0.0, 0.0, 0.1)),
            "seed": derive(seed, "problem", self.name, index),
            "objective": draw.choice(("cross_entropy", "cross_entropy", "smoothed", "squared")),
            "factor": draw.choice((1.0, 1.0, 0.1, 10.0)),
        }
        kept = {part.name: getattr(base, part.name) for part in fields(base)}
        return VariedTask(**(kept | drawn))


def varied_network(
    *,
    make: Callable[..., nn.Module],
    initial: str,
    scale: float,
    factors: Sequence[float],
    **shape: int,
) -> nn.Module:
    """Return a network with other initial weights, and with factors in front of its tensors.

    Args:
        make: Makes the network of `shape`.
        initial: Initial weights of the tensors with two dimensions or more. "torch" keeps what
            `make` drew; "relu" and "linear" are He's normal distribution with that gain.
        scale: Factor of these initial weights.
        factors: One per tensor, repeated as often as needed. The network computes with the factor
            times the parameter. Its initial function does not depend on the factor.
        **shape: Channels, size and classes of the images.
    """
    model = make(**shape)
    for tensor in model.parameters():
        if tensor.ndim < 2:
            continue
        if initial != "torch":
            nn.init.kaiming_normal_(tensor, nonlinearity=initial)  # pyright: ignore[reportArgumentType]
        tensor.data.mul_(scale)
    if set(factors) != {1.0}:
        _reparametrise(model, factors)
    return model


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, tensor: Tensor) -> Tensor:
        return tensor * self.factor

    def right_inverse(self, tensor: Tensor) -> Tensor:
        return tensor / self.factor


def _reparametrise(model: nn.Module, factors: Sequence[float]) -> None:
    owned = [(m, name) for m in model.modules() for name, _ in m.named_parameters(recurse=False)]
    for place, (module, name) in enumerate(owned):
        factor = factors[place % len(factors)]
        if factor != 1.0:
            parametrize.register_parametrization(module, name, _Times(factor))


def _factors(draw: Draw) -> tuple[float, ...]:
    """Return seven factors, three quarters of them 1; every second problem has no factors."""
    if draw.uniform((0.0, 1.0)) < 0.5:
        return (1.0,)
    return tuple(
        draw.log((1 / 3, 3.0)) if draw.uniform((0.0, 1.0)) < 0.25 else 1.0 for _ in range(7)
    )


def _mlp(draw: Draw) -> Callable[..., nn.Module]:
    hidden = (draw.log_integer((8, 64)),) * draw.integer((1, 4))
    return partial(draw.choice((MLP, MLP, GELUMLP, TanhMLP)), hidden=hidden)


def _deep(draw: Draw) -> Callable[..., nn.Module]:
    hidden = (draw.log_integer((16, 64)),) * draw.integer((5, 7))
    return partial(draw.choice((MLP, GELUMLP, TanhMLP)), hidden=hidden)


def _conv(draw: Draw) -> Callable[..., nn.Module]:
    width, depth = draw.choice((4, 8)), draw.integer((1, 3))
    channels = (width,) * (depth - 1) + (2 * width,)
    activation, normalised = draw.choice(_ACTIVATIONS), draw.choice((False, True))
    return partial(SmallConv, channels=channels, normalised=normalised, activation=activation)


def _attention(draw: Draw) -> Callable[..., nn.Module]:
    return partial(
        RowAttention, width=draw.choice((16, 16, 32)), activation=draw.choice(_ACTIVATIONS)
    )


_NETWORKS: Mapping[str, Callable[[Draw], Callable[..., nn.Module]]] = {
    "mlp": _mlp,
    "deep": _deep,
    "conv": _conv,
    "attention": _attention,
}
