"""A scheduler on an optimizer with one weight per group, and loops that drive it."""

import math

import torch

from meta_lr.drop_in.scheduler import ControlledLR
from tests.controllers import Tenth

NAN, INF = math.nan, math.inf


def build(controller=None, *, lr=0.5, kind=torch.optim.SGD, num_groups=1, **options):
    """One weight per group, at 1, with gradient 1."""
    params = [torch.nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(num_groups)]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer = kind([{"params": [p]} for p in params], lr=lr)
    return ControlledLR(optimizer, controller or Tenth(), **options), optimizer


def rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def drive(scheduler, losses):
    """Take one step per entry (a loss, or a list of losses to accumulate); return the rates."""
    taken = []
    for entry in losses:
        for loss in entry if isinstance(entry, list) else [entry]:
            scheduler.observe(torch.tensor(loss, dtype=torch.float64))
        scheduler.optimizer.step()
        taken.append(rates(scheduler.optimizer)[0])
    return taken


def grouped(*groups, lr=0.5, controller=None):
    params = [{"params": [torch.nn.Parameter(torch.ones(1))], **group} for group in groups]
    optimizer = torch.optim.SGD(params, lr=lr)
    return ControlledLR(optimizer, controller or Tenth()), optimizer


def in_torchs_order(scheduler, num_steps):
    """The rates of the first group, with the scheduler after the optimizer, as torch asks for."""
    rates = []
    for _ in range(num_steps):
        rates.append(float(scheduler.optimizer.param_groups[0]["lr"]))
        scheduler.optimizer.step()
        scheduler.step()
    return rates
