"""The schedule of one run: a learned schedule, or a cosine with its own peak."""

from __future__ import annotations

from typing import NamedTuple

import torch

from benchmarks.scorecard.learned import phi_of
from benchmarks.scorecard.tuned import Tuned
from meta_lr.bilevel.schedules import Schedule
from meta_lr.methods.self_tuning.schedule import SelfTuning
from meta_lr.vectors import Tensors

Outcome = dict[str, float]  # log of a validation loss, nats, by the name of the measurement


class Steering(NamedTuple):
    """A schedule with its weights, for one copy."""

    schedule: Schedule
    phi: Tensors
    fingerprint: str  # a row with another fingerprint is made again


def learned(schedule: SelfTuning) -> Steering:
    """Return a learned schedule."""
    return Steering(schedule, phi_of(schedule), schedule.fingerprint)


def cosine(decade: float, unit: float) -> Steering:
    """Return a cosine with warm-up, its peak in plain SGD's unit."""
    phi = (torch.tensor([10.0**decade * unit]), torch.zeros(1))
    return Steering(Tuned(), phi, f"cosine {decade:+.1f}")
