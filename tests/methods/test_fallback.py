"""The fallback: above the range, steadily, and never below it."""

import math
from dataclasses import dataclass
from itertools import groupby

import pytest
import torch

from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.basic import Constant
from meta_lr.methods.fallback import Fallback
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.protocol import Need, StepView

INNER, OUTSIDE, HIGH = 0.1, 0.3, 2.0
SAFE = Fallback(Constant(INNER), Constant(OUTSIDE), HIGH)


def follow(controller, losses):
    """Return the rates for these losses, and the last state."""
    state, rates = controller.init(), []
    for step, loss in enumerate(losses):
        rate, state = controller(StepView(controller, step, loss=torch.tensor(loss)), state)
        rates.append(rate)
    return rates, state


def stretches(rates):
    """Return who steered, and for how many steps, in turn."""
    return [(rate, len(list(steps))) for rate, steps in groupby(rates)]


def test_a_run_that_goes_well_is_left_alone_however_low_its_loss():
    rates, state = follow(SAFE, [1.9 * 0.98**step for step in range(320)] + [-5.0])
    assert stretches(rates) == [(INNER, 321)]
    assert state.num_fallbacks == 0


def test_noise_at_the_edge_of_the_range_does_not_make_the_rate_flicker():
    noise = torch.randn(5_000, generator=torch.Generator().manual_seed(0)).double()
    rates, _ = follow(SAFE, (HIGH + 0.3 * noise).tolist())
    assert len(stretches(rates)) == 1


def test_a_fall_through_the_noisy_edge_changes_hands_once():
    noise = torch.randn(400, generator=torch.Generator().manual_seed(1)).double()
    losses = [4.0 - step / 100 + 0.3 * float(noise[step]) for step in range(400)]
    rates, state = follow(SAFE, losses)
    (first, above), (second, _) = stretches(rates)
    assert (first, second) == (OUTSIDE, INNER)
    assert 180 < above < 300, "the loss is at the edge in step 200"
    assert state.num_fallbacks == above


def test_it_takes_over_after_22_losses_above_the_range_and_gives_back_after_22_within():
    rates, state = follow(SAFE, [1.0] * 10 + [9.0] * 60 + [1.0] * 40)
    taken, given = stretches(rates)[:2]
    assert (taken, given[0]) == ((INNER, 10 + 21), OUTSIDE)
    assert 21 <= given[1] - (60 - 21) <= 22
    assert stretches(rates)[2][0] == INNER and len(stretches(rates)) == 3
    assert state.num_fallbacks == given[1]


@pytest.mark.parametrize("spike", [5.0, 1e30])
def test_a_spike_is_outlived_whatever_its_height(spike):
    rates, _ = follow(SAFE, [1.0] * 10 + [spike] * 5 + [1.0] * 10)
    assert stretches(rates) == [(INNER, 25)]


def test_a_run_that_begins_above_the_range_begins_with_the_fallback():
    assert follow(SAFE, [9.0])[0] == [OUTSIDE]
    assert follow(SAFE, [1.0])[0] == [INNER]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_does_not_reach_the_network(loss):
    net = LSTM(hidden=4)
    learned = Learned(net, [net.init(0)], 0.2)
    safe = Fallback(learned, Constant(OUTSIDE), HIGH)
    rates, state = follow(safe, [1.0, loss, 1.0])
    without, _ = follow(learned, [1.0, 1.0])
    assert rates == [without[0], OUTSIDE, without[1]]
    assert state.num_fallbacks == 1


def test_losses_that_are_not_finite_are_above_the_range():
    assert follow(SAFE, [1.0] + [math.nan] * 30)[1].fallen


def test_in_a_loop_of_ones_own_the_count_is_in_the_state_dict():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scheduler = ControlledLR(optimizer, SAFE)
    for _ in range(3):
        weight.grad = torch.zeros(1)
        scheduler.observe(5.0)
        optimizer.step()
    assert scheduler.state_dict()["state"]["num_fallbacks"] == 3
    assert optimizer.param_groups[0]["lr"] == OUTSIDE


@dataclass(frozen=True)
class Reader:
    """A controller whose needs are its own."""

    needs = Need.HORIZON

    def init(self):
        return Constant(0.1).init()

    def __call__(self, view, state):
        return 1.0 / view.total_steps, state


def test_it_needs_what_both_need_and_the_loss():
    assert Fallback(Constant(0.1), Reader(), 1.0).needs == Need.LOSS | Need.HORIZON


@pytest.mark.parametrize("high", [math.nan, math.inf])
def test_a_range_without_an_end_is_refused(high):
    with pytest.raises(ValueError, match="needs the largest loss that inner knows"):
        Fallback(Constant(0.1), Constant(0.2), high)
