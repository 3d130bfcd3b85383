"""`ControlledLR` in a process group: other losses on each rank, one rate on all."""

import math

import pytest
import torch
import torch.distributed as dist

from meta_lr.drop_in.losses import as_loss, summarise
from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.protocol import Need
from tests.controllers import Says, Tenth
from tests.ranks import on_ranks

NAN, INF = math.nan, math.inf

# What each of the two ranks observes before each step, and the rate of that step by hand.
STEPS = [
    ([1.0], [3.0], 0.2),
    ([1.0, 2.0], [6.0], 0.3),  # the mean of the losses, not of the ranks' means
    ([NAN], [4.0], 0.4),
    ([], [5.0, INF], 0.5),
    ([NAN], [INF], 0.5),  # none is finite anywhere: the rate holds
    ([], [NAN], 0.5),
    ([], [], 0.5),
    ([1 / 3], [0.1], 0.1 * (1 / 3 + 0.1) / 2),
]


def late_mean(losses, weight):
    """The mean loss for a controller that reads late; -1 if nobody observed one."""
    pending = [as_loss(torch.tensor(loss, dtype=torch.float64)) for loss in losses]
    mean, num_seen = summarise(pending, lambda: [weight], late=True)
    return mean.item() if num_seen else -1.0


def worker(rank):
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.8)
    scheduler = ControlledLR(optimizer, Tenth())
    rates = []
    for losses in (step[rank] for step in STEPS):
        for loss in losses:
            scheduler.observe(torch.tensor(loss, dtype=torch.float64))
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    optimizer.step(lambda: float(rank))
    rates.append(optimizer.param_groups[0]["lr"])
    try:
        ControlledLR(optimizer, Says(0.1, Need.TRIALS), sandbox=object())
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    report = {"rates": rates, "held": scheduler.held, "refusal": refusal}
    report["late"] = [late_mean(step[rank], weight) for step in STEPS]
    return report


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_ranks_with_different_losses_take_one_rate():
    first, second = on_ranks(2, worker)
    assert str(first) == str(second)  # bit for bit; NaN does not equal itself
    expected = [rate for _, _, rate in STEPS]
    assert first["rates"] == pytest.approx([*expected, 0.05], rel=1e-15)
    assert first["held"] == 2
    late = [rate * 10 for rate in expected[:4]] + [NAN, NAN, -1.0, expected[7] * 10]
    assert first["late"] == pytest.approx(late, rel=1e-15, nan_ok=True)
    assert "Says makes experiments, which differ between the 2 ranks" in first["refusal"]
