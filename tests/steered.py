"""Small runs that a self-tuning schedule steers, and what it read and answered at each step."""

from __future__ import annotations

import math

import torch
from torch import nn

import meta_lr
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.seeds import generator

STEPS = 30
X, Y = (torch.randn(64, n, generator=generator(n, "data"), dtype=torch.float64) for n in (6, 3))


def schedule(size=0.3, seed=0, net=NETWORK):
    """A schedule with weights as large as asked; of size 0 the network says nothing."""
    draw = generator(seed, "weights")
    return SelfTuning(tuple(size * torch.randn(w.shape, generator=draw) for w in net.init(0)), net)


def network(dtype=torch.float64):
    """Two layers with a bias each."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def momentum(params):
    return torch.optim.SGD(params, lr=1.0, momentum=0.9)


class Lion(torch.optim.Optimizer):
    """A sign of interpolated gradients; no rule of ours describes it."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                p.sub_(average.lerp(p.grad, 0.1).sign(), alpha=float(group["lr"]))
                average.lerp_(p.grad, 0.01)


def batch_of(step):
    rows = slice(step % 4 * 16, step % 4 * 16 + 16)
    return X[rows], Y[rows]


def loss_of(net, step):
    x, y = batch_of(step)
    dtype = next(net.parameters()).dtype
    return (net(x.to(dtype)) - y.to(dtype)).square().mean()


def usual_norm(tensor):
    """The norm that torch would give a tensor at the start."""
    return math.sqrt(max(len(tensor), 1) / 3)


class Steered:
    """A run of one's own, one step at a time.

    Attributes:
        rates: The learning rate of each step.
        read: The features of each step but the first, as the schedule read them.
        moved: Size of each step: the root mean square of what each matrix that requires a gradient
            moved over its norm, or over the usual one if it begins at zero.
    """

    def __init__(self, *, net=None, make=momentum, steps=STEPS, size=0.3, params=None):
        self.net = network() if net is None else net
        self.optimizer = make(list(self.net.parameters()) if params is None else params)
        self.rates, self.read, self.moved = [], [], []
        own = schedule(size)
        scores = own._scores
        vars(own)["_scores"] = lambda x, memory: self.read.append(list(x)) or scores(x, memory)
        self.scheduler = meta_lr.ControlledLR(self.optimizer, own, total_steps=steps)
        self.steps, self.step = steps, 0
        self._matrices = [p for p in self.net.parameters() if p.ndim > 1 and p.requires_grad]
        self._least = [0.0 if p.any() else usual_norm(p) for p in self._matrices]

    def backward(self):
        """One whole batch."""
        self.optimizer.zero_grad()
        loss = loss_of(self.net, self.step)
        loss.backward()
        self.scheduler.observe(loss)

    def take(self, act=None):
        """Step, by default with the optimizer itself."""
        before = [p.detach().clone() for p in self._matrices]
        (act or self.optimizer.step)()
        sizes = [
            ((p.detach() - old).norm() / max(old.norm().item(), least)).item()
            for p, old, least in zip(self._matrices, before, self._least, strict=True)
        ]
        self.moved.append(math.hypot(*sizes) / math.sqrt(len(sizes)))
        self.rates.append(float(self.optimizer.param_groups[0]["lr"]))
        self.step += 1

    def run(self, before_step=lambda run: None, backward=None):
        """Take all steps; `before_step` is called between the gradient and the step."""
        for _ in range(self.steps):
            (backward or Steered.backward)(self)
            before_step(self)
            self.take()
        return self

    @property
    def state(self):
        return self.scheduler._state
