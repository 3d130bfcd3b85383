"""Small problems for the tests: a task that needs no data, and controllers that read one thing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

from meta_lr.protocol import Need
from meta_lr.seeds import derive, generator, seed_model


class Net(nn.Module):
    """BatchNorm and dropout in a small smooth network."""

    def __init__(self, dropout=0.2, norm=True, tied=False):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.middle = nn.Linear(8, 8)
        if tied:
            self.middle.weight = nn.Parameter(self.middle.weight.clone())
            self.again = nn.Linear(8, 8)
            self.again.weight = self.middle.weight
        else:
            self.again = nn.Identity()
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = self.norm(nn.functional.gelu(self.first(x)))
        x = nn.functional.gelu(self.again(self.middle(self.dropout(x))))
        return self.last(x)


@dataclass(frozen=True)
class Toy:
    """Three classes that a linear map of Gaussian inputs decides, with noise."""

    seed: int = 0
    batch_size: int = 16
    batches: int = 5
    dropout: float = 0.2
    norm: bool = True
    tied: bool = False
    name: str = field(default="toy", init=False)
    num_classes: int = field(default=3, init=False)

    def model(self):
        with torch.random.fork_rng([]):
            seed_model(self.seed, "init")
            return Net(self.dropout, self.norm, self.tied)

    def num_batches(self, split):
        return self.batches if split == "train" else 2

    def batch(self, split, index, draw=None):
        g = generator(derive(self.seed, split), index, -1 if draw is None else draw)
        x = torch.randn(self.batch_size, 6, generator=g)
        rule = torch.randn(6, 3, generator=generator(7, "rule"))
        noise = torch.randn(self.batch_size, 3, generator=g)
        return x, (x @ rule + noise).argmax(1)

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def metrics(self, model, batch):
        out = model(batch[0])
        accuracy = (out.argmax(1) == batch[1]).double().mean()
        return {"loss": nn.functional.cross_entropy(out, batch[1]), "accuracy": accuracy}


class Count(NamedTuple):
    calls: int = 0


@dataclass(frozen=True)
class LossRate:
    """The rate is a tenth of the loss."""

    factor: float = 0.1

    @property
    def needs(self):
        return Need.LOSS

    def init(self):
        return Count()

    def __call__(self, view, state):
        return self.factor * view.loss, Count(state.calls + 1)


class Probes(NamedTuple):
    last: float = 0.0


@dataclass(frozen=True)
class HeavyProber:
    """Probes in every way the sandbox has, each step, and then gives a constant rate."""

    rate: float = 0.05

    @property
    def needs(self):
        return Need.PARAMS | Need.LOSS | Need.GRADS | Need.DIRECTION | Need.META | Need.TRIALS

    def init(self):
        return Probes()

    def __call__(self, view, state):
        sandbox = view.sandbox
        total = float(sandbox.loss(view.params))
        with torch.enable_grad():
            moved = [p.detach().requires_grad_() for p in view.params]
            loss = sandbox.loss(moved, 0) + sandbox.meta_loss(moved)
            torch.autograd.grad(loss, moved)
        with sandbox.trial() as trial:
            for _ in range(3):
                total += float(trial.step(0.1))
            total += trial.val_loss(2)
        assert len(view.direction) == len(view.grads)
        return self.rate, Probes(total)


@dataclass(frozen=True)
class Fixed:
    """A constant, to compare with."""

    rate: float = 0.05

    @property
    def needs(self):
        return Need.NOTHING

    def init(self):
        return Count()

    def __call__(self, view, state):
        return self.rate, state
