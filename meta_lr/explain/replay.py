"""A self-tuning schedule in a synthetic run: plain SGD with random gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meta_lr import seeds
from meta_lr.explain.history import AGREES, History
from meta_lr.explain.loss_schedule import Array
from meta_lr.methods.self_tuning.schedule import SelfTuning, SelfTuningState
from meta_lr.protocol import HostLoss, StepView, check_rate

SHAPE = (32, 32)  # of the weights
CRITICAL = 0.03  # relative update above which successive gradients no longer agree
LARGEST = 0.9  # largest absolute value of a cosine
EVENTS = ("retreats", "clamped", "alarms")  # the events that the schedule counts


@dataclass(frozen=True)
class Replay:
    """The behaviour of the schedule in a run.

    Attributes:
        losses: Losses in nats, (steps,).
        lr: The learning rates divided by the first one, (steps,).
        updates: The norm of each update divided by that of the weights, (steps,).
        events: Name of the event -> its steps.
        states: The state after each step, with the counts; the next step starts from it.
    """

    losses: Array
    lr: Array
    updates: Array
    events: dict[str, NDArray[np.int64]]
    states: list[SelfTuningState]


def replay(schedule: SelfTuning, history: History) -> Replay:
    """Return the behaviour in a run; the losses do not depend on the learning rate.

    The norm of the gradient is proportional to the square root of the loss. The cosine of two
    successive gradients is given by `history`, and falls with the size of the update between them.
    All other signals, such as the spread of the weights, are measured on weights that really take
    these steps.
    """
    draw = seeds.generator(0, "explain", "replay")
    weights, state = _drawn(draw), schedule.init()
    direction, update = torch.zeros_like(weights), 0.0
    rates, updates, states = [], [], []
    for step, (loss, cosine) in enumerate(zip(history.losses, history.alignment, strict=True)):
        cosine = max(cosine - AGREES * update / CRITICAL, -LARGEST)
        direction = _next(direction, cosine, _drawn(draw))
        grad = math.sqrt(loss / history.losses[0]) * direction
        view = StepView(
            schedule,
            step,
            total_steps=len(history.losses),
            loss=HostLoss(float(loss), torch.float64),
            params=[weights],
            grads=[grad],
            direction=lambda grad=grad: [grad],
        )
        lr, state = schedule(view, state)
        rates.append(check_rate(schedule, step, lr))
        update = lr * float(grad.norm() / weights.norm())
        updates.append(update)
        states.append(state._replace(memory=()))  # the memory is updated in place
        weights -= lr * grad
    lr = np.array(rates)
    return Replay(history.losses, lr / lr[0], np.array(updates), _events(states), states)


def _drawn(draw: torch.Generator) -> Tensor:
    return torch.randn(SHAPE, generator=draw, dtype=torch.float64)


def _next(last: Tensor, cosine: float, new: Tensor) -> Tensor:
    """Return a random direction of norm 1 that has this cosine with the last direction."""
    new = new - (new * last).sum() * last
    direction = cosine * last + math.sqrt(1 - cosine**2) * new / new.norm()
    return direction / direction.norm()


def _events(states: list[SelfTuningState]) -> dict[str, NDArray[np.int64]]:
    """Return the steps at which each count increased."""
    counts = {name: [getattr(state, f"num_{name}") for state in states] for name in EVENTS}
    return {name: np.flatnonzero(np.diff(n, prepend=0)) for name, n in counts.items()}
