"""Knee against a slow twin, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from meta_lr.methods.knee import Knee
from meta_lr.protocol import StepView
from tests.reference import knee as slow


@pytest.mark.parametrize(
    ("warmup", "explore"), [(0.0, 0.5), (0.1, 0.5), (0.25, 0.3), (0.0, 0.0), (0.0, 1.0), (0.3, 0.7)]
)
@pytest.mark.parametrize("total_steps", [1, 7, 40])
def test_the_rates_are_those_of_the_published_scheduler(warmup, explore, total_steps):
    knee = Knee(0.3, warmup, explore)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=9.0)
    steps = round(warmup * total_steps), round(explore * total_steps)
    twin = slow.Knee(optimizer, 0.3, *steps, total_steps)
    for step in range(total_steps):
        view = StepView(knee, step, total_steps=total_steps)
        rate = optimizer.param_groups[0]["lr"]
        assert knee(view, knee.init())[0] == pytest.approx(rate, rel=1e-12, abs=1e-15)
        if step < total_steps - 1:
            twin.step()


def test_after_the_run_the_rate_stays_at_zero():
    knee = Knee(0.3)
    assert knee(StepView(knee, 12, total_steps=10), knee.init())[0] == 0.0
    whole = Knee(0.3, explore=1.0)
    assert whole(StepView(whole, 10, total_steps=10), whole.init())[0] == 0.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"peak": -0.1}, "it needs a finite peak >= 0"),
        ({"peak": float("inf")}, "it needs a finite peak >= 0"),
        ({"peak": 0.1, "explore": -0.1}, "Knee got warmup=0.0, explore=-0.1; it needs parts"),
        ({"peak": 0.1, "explore": 0.6, "warmup": 0.5}, "together at most 1"),
        ({"peak": 0.1, "explore": float("nan")}, "together at most 1"),
    ],
)
def test_what_is_no_part_of_a_run_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Knee(**options)
