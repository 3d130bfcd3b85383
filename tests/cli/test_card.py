"""The card of a meta-trained checkpoint, where a number in it has no denominator."""

from __future__ import annotations

from pathlib import Path

import pytest

from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.networks.mlp import MLP
from meta_lr.records.reader import Record
from meta_lr.report.card import card

ROWS = [
    {"kind": "header", "task": "digits", "model": "CNN3", "optimizer": "sgd", "seed": 0}
    | {"steps_per_epoch": 2},
    *({"kind": "step", "lr": 0.0} for _ in range(4)),
    {"kind": "end", "steps": 4, "cost": 5.0},
]


@pytest.mark.parametrize(
    ("start", "moved"),
    [("zero", "phi moved from zero to a norm of 0.2."), ("linear", "phi moved by 0.0% of its")],
)
def test_a_network_that_began_at_zero_and_rates_of_zero_have_a_card(start, moved):
    controller = OnlineMLRSNet(MLP(()), gamma=0.5, start=start)
    state = controller.init()._replace(low=0.1, high=2.0, gamma=0.5)
    if start == "zero":
        state = state._replace(phi=(state.phi[0] - 0.2, state.phi[1]))
    text = card(Record(ROWS), controller, state, name="mine", place=Path("mine"))
    assert moved in text
    assert "its standard deviation is\n0.0% of its mean" in text
