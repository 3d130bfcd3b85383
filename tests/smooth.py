"""Small smooth networks of four kinds, and a run of each that waits in the middle of a step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from meta_lr.bilevel.look_ahead import Reads
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.optim import rules
from meta_lr.protocol import Need, StepView
from meta_lr.seeds import derive, generator, seed_model
from meta_lr.training.sandbox import Sandbox
from meta_lr.training.step import gradient


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.lstm(x.flatten(1).reshape(len(x), -1, 3))[0][:, -1])


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.GELU(), nn.Linear(6, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def dropout():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3)
    )


EVERYTHING = Reads(
    Need.LOSS | Need.PARAMS | Need.DIRECTION | Need.META | Need.TRIALS | Need.HORIZON
)
MODELS = {"mlp": mlp, "cnn with BatchNorm": cnn, "dropout": dropout, "lstm": Recurrent}


@dataclass(frozen=True)
class Smooth:
    """Images of 6 x 6 whose class a linear map decides, with noise."""

    kind: str
    seed: int = 0
    name: str = field(default="smooth", init=False)
    num_classes: int = field(default=3, init=False)

    def model(self):
        with torch.random.fork_rng([]):
            seed_model(self.seed, "init")
            return MODELS[self.kind]()

    def num_batches(self, split):
        return 4

    def batch(self, split, index, draw=None):
        g = generator(derive(self.seed, split), index, -1 if draw is None else draw)
        x = torch.randn(8, 1, 6, 6, generator=g)
        rule = torch.randn(36, 3, generator=generator(7, "rule"))
        return x, (x.flatten(1) @ rule + torch.randn(8, 3, generator=g)).argmax(1)

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def metrics(self, model, batch):
        return {"loss": self.loss(model, batch)}


class Stopped:
    """What runs that stop in the middle of a step have in common."""

    def gradient(self, step):
        self.sandbox.at(step)
        seed_model(0, "model", step)
        loss = self.task.loss(self.model, self.task.batch("train", step))
        return gradient(self.optimizer, [loss], None)


class Waiting(Stopped):
    """A run after the gradient of its third step, with optimizer state and a memory."""

    def __init__(self, kind, optimizer, net, *, rate=0.5):
        self.task, self.net, self.rate = Smooth(kind), net, rate
        self.model = self.task.model()
        self.optimizer = optimizer(self.model.parameters())
        self.sandbox = Sandbox(self.model, self.optimizer, self.task.loss, self.task.batch, seed=0)
        self.phi = tuple(2 * weight for weight in net.init(1))
        self.state = self.learner(self.phi).init()
        for step in range(3):
            loss = self.gradient(step)
            if step < 2:
                _, self.state = self.learner(self.phi)(self.view(step, loss), self.state)
                self.optimizer.step()
        self.loss = loss

    def learner(self, phi):
        return Learned(self.net, (phi,), self.rate)

    def view(self, step, loss):
        return StepView(
            EVERYTHING,
            step,
            total_steps=50,
            loss=loss,
            params=list(self.model.parameters()),
            direction=lambda: rules.direction(self.optimizer),
            sandbox=self.sandbox,
        )

    def estimate(self, estimator, weights, phi=None):
        phi = tuple(weight.detach().requires_grad_() for weight in phi or self.phi)
        return estimator(self.learner(phi), self.state, self.view(2, self.loss), weights)
