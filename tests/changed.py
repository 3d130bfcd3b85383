"""Inner problems whose networks begin with zeros, or with tensors that are not trained."""

from __future__ import annotations

from dataclasses import replace

from torch import nn


def zero(model):
    for p in model.parameters():
        nn.init.zeros_(p)


def zero_head(model):
    nn.init.zeros_([p for p in model.parameters() if p.ndim > 1][-1])


def frozen_body(model):
    next(model.parameters()).requires_grad_(False)


def frozen_and_zero(model):
    frozen_body(model)
    zero_head(model)


def changed(problem, change):
    """Return the problem with another network: that of its task, after `change`."""
    make = problem.task.network

    def network(**shape):
        model = make(**shape)
        change(model)
        return model

    return problem._replace(task=replace(problem.task, network=network))
