"""The self-tuning schedule: one function in every loop, and bounds that no network can leave."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

import meta_lr
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.methods.features.arithmetic import FLOATS
from meta_lr.methods.features.feature import Moment
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.methods.self_tuning.integrator import Integrator
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.optim.signals import Signals, signals_of
from meta_lr.protocol import StepView
from meta_lr.seeds import generator
from meta_lr.testing import check_controller

STEPS = 60


def weights(size=0.3, seed=0, net=NETWORK):
    """Weights of the network, as large as asked; of size 0 it says nothing."""
    draw = generator(seed, "weights")
    return tuple(size * torch.randn(w.shape, generator=draw) for w in net.init(0))


def losses(schedule, *, kind=torch.optim.Adam, lr=0.5, factor=1.0, steps=STEPS, spike=None):
    """Train a small network; return the learning rates, and the scheduler."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        x, y = torch.randn(64, 6), torch.randn(64, 3)
    optimizer, rates = kind(net.parameters(), lr=lr), []
    scheduler = meta_lr.ControlledLR(optimizer, schedule, total_steps=steps)
    for step in range(steps):
        loss = factor * (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        scheduler.observe(loss * (spike(step) if spike else 1.0))
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates, scheduler


@pytest.mark.filterwarnings("ignore:the loss became negative")  # with noise around zero
def test_it_keeps_the_contract_of_controllers():
    check_controller(SelfTuning(weights()))


CELL = LSTM(hidden=4, inputs=NETWORK.inputs, outputs=2)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("net", [NETWORK, CELL])
@pytest.mark.parametrize("optimizer", ["sgd", "sgd_momentum", "adam"])
def test_copies_and_a_loop_of_ones_own_give_the_same_rates(optimizer, net, double):
    problems = DigitsProblems(lengths=(40, 40), optimizers=(optimizer,), label_noise=(0.0, 0.0))
    problem, phi = problems(3), [weights(seed=1, net=net), weights(seed=2, net=net)]
    copies = Copies(problem, SelfTuning(phi[0], net), 2)
    point, stacked = copies.start(), tuple(torch.stack(pair) for pair in zip(*phi, strict=True))
    end = copies.run(point, stacked, 0, 40)
    for copy, own in enumerate(phi):
        model = problem.task.model()
        made = problem.make_optimizer(list(model.parameters()))
        scheduler = meta_lr.ControlledLR(made, SelfTuning(own, net), total_steps=40)
        for step in range(40):
            loss = problem.task.loss(model, problem.task.batch("train", step))
            made.zero_grad()
            loss.backward()
            scheduler.observe(loss)
            made.step()
        for theirs, p in zip(end.params, model.parameters(), strict=True):
            assert torch.allclose(theirs[copy], p, rtol=1e-6, atol=1e-6)


def test_a_network_that_says_nothing_grows_then_falls_from_a_small_fraction_of_the_weights():
    bounds = Integrator(target=0.25, power=0.5)
    rates, scheduler = losses(SelfTuning(weights(0.0), integrator=bounds))
    top = rates.index(max(rates))
    assert 0 < top < 0.9 * STEPS and rates[top] > 1.5 * rates[0]
    assert rates[-1] < 0.2 * rates[top]
    assert scheduler._state.num_retreats == 0


@pytest.mark.parametrize("lr", [1e-6, 100.0])
def test_the_optimizers_own_learning_rate_is_not_used(lr):
    schedule = SelfTuning(weights())
    assert losses(schedule, lr=lr)[0] == pytest.approx(losses(schedule)[0])


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_a_factor_of_the_loss_changes_only_the_scale(factor):
    schedule = SelfTuning(weights(0.1))
    plain, _ = losses(schedule, kind=torch.optim.SGD)
    other, _ = losses(schedule, kind=torch.optim.SGD, factor=factor)
    assert [rate * factor for rate in other] == pytest.approx(plain, rel=1e-2)


class Unknown(torch.optim.Optimizer):
    """An optimizer that nobody has a rule for: it moves along the sign of the gradient."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad.sign(), alpha=float(group["lr"]))


def test_any_optimizer_works():
    rates, _ = losses(SelfTuning(weights()), kind=Unknown)
    assert all(math.isfinite(rate) for rate in rates) and rates[0] < 0.01


def scales(schedule, kind):
    """Return the logarithms of the scale, the sizes of the steps, their learning rates, and counts.

    A size is in units of the weights that the step leads to, as the schedule measures it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        x, y = torch.randn(64, 6), torch.randn(64, 3)
    optimizer, found, moved, rates = kind(net.parameters(), lr=1.0), [], [], []
    scheduler = meta_lr.ControlledLR(optimizer, schedule, total_steps=STEPS)
    for _ in range(STEPS):
        before = [p.detach().clone() for p in net.parameters() if p.ndim > 1]
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        scheduler.observe(loss)
        optimizer.step()
        after = [p.detach() for p in net.parameters() if p.ndim > 1]
        ratios = [(a - b).norm() / a.norm() for a, b in zip(after, before, strict=True)]
        moved.append(torch.stack(ratios).square().mean().sqrt().item())
        rates.append(optimizer.param_groups[0]["lr"])
        found.append(scheduler._state.scale[0])
    return found, moved, rates, scheduler


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_no_network_leaves_the_bounds(kind):
    """For any weights: growth is bounded by the run length, an update by the weights.

    An update is bounded as far as it is known: per learning rate it is as large as the last one
    that was seen, two steps ago. Only a gradient that grows meanwhile makes it larger.
    """
    bounds = Integrator()
    kappa = min(bounds.most, math.log(10) / (bounds.decade * STEPS))
    up = (*(torch.zeros_like(w) for w in weights()[:-1]), torch.tensor([0.0, 1e6]))
    found, moved, rates, scheduler = scales(SelfTuning(up), kind)
    growth = [b - a for a, b in pairwise(found)]
    assert max(growth) <= kappa + 1e-6 and max(growth) > 0.9 * kappa
    known = [moved[t - 2] / rates[t - 2] * rates[t] for t in range(2, STEPS)]
    assert 0.5 * bounds.clamp < max(known) <= bounds.clamp * (1 + 1e-4)
    assert scheduler._state.num_clamped > 0
    if kind is torch.optim.Adam:  # its update does not grow with the gradient
        assert max(moved) < 2 * bounds.clamp


def pushed(slope, steps, total_steps=1000):
    """Return the relative updates of plain SGD on a slope, the loss being the same throughout."""
    weight = nn.Parameter(torch.ones(4, 4))
    optimizer, moved = torch.optim.SGD([weight], lr=1.0), []
    scheduler = meta_lr.ControlledLR(optimizer, SelfTuning(weights(0.0)), total_steps=total_steps)
    for step in range(steps):
        weight.grad = torch.full_like(weight, slope(step))
        before = weight.detach().clone()
        scheduler.observe(torch.tensor(2.0))
        optimizer.step()
        moved.append(((weight.detach() - before).norm() / before.norm()).item())
    return moved, scheduler


def test_a_gradient_that_jumps_does_not_make_a_step_that_jumps():
    """On a plateau the learning rate grows; where it ends, the gradient is a hundredfold."""
    moved, scheduler = pushed(lambda step: 2.0 ** min(max(step - 199, 0), 7), steps=220)
    assert max(moved[200:]) < 2 * 2 * 3 * moved[199]  # seen two steps late, and `surge`
    assert scheduler._state.num_clamped > 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_where_the_network_says_nothing_the_spread_approaches_its_target(momentum):
    """Gradients are noise, and the loss stays the same: nothing else leads the learning rate."""
    bounds, draw = Integrator(), generator(0, "noise")
    weight = nn.Parameter(torch.randn(32, 32, generator=draw))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=momentum)
    scheduler = meta_lr.ControlledLR(optimizer, SelfTuning(weights(0.0)), total_steps=1000)
    for _ in range(500):
        weight.grad = torch.randn(32, 32, generator=draw)
        scheduler.observe(torch.tensor(2.0))
        optimizer.step()
    spread = signals_of(scheduler._state.last[1:]).spread
    assert spread == pytest.approx(bounds.target * 0.5**bounds.power, rel=0.25)


def test_a_loss_that_deteriorates_makes_it_retreat_once_in_a_while():
    schedule = SelfTuning(weights(0.0))
    worse = losses(schedule, steps=200, spike=lambda step: 4.0 if step > 100 else 1.0)
    plain = losses(schedule, steps=200)
    assert worse[1]._state.num_retreats > plain[1]._state.num_retreats == 0
    assert worse[0][140] <= 0.5 * plain[0][140]
    assert worse[0][100] == plain[0][100]


def test_a_loss_far_above_the_first_one_is_an_alarm_once_in_a_while():
    schedule = SelfTuning(weights(0.0))
    hot = losses(schedule, steps=200, spike=lambda step: 1e4 if 100 < step < 114 else 1.0)
    assert hot[1]._state.num_alarms == 2  # eight steps apart
    assert hot[0][115] < losses(schedule, steps=200)[0][115] / 10


def test_a_state_that_was_saved_goes_on_alike(tmp_path):
    schedule = SelfTuning(weights())
    whole, _ = losses(schedule)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        x, y = torch.randn(64, 6), torch.randn(64, 3)
    optimizer, rates = torch.optim.Adam(net.parameters(), lr=0.5), []
    scheduler = meta_lr.ControlledLR(optimizer, schedule, total_steps=STEPS)
    for step in range(STEPS):
        if step == 25:
            torch.save(scheduler.state_dict(), tmp_path / "state.pt")
            scheduler = meta_lr.ControlledLR(optimizer, schedule, total_steps=STEPS)
            scheduler.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        scheduler.observe(loss)
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == whole


def test_another_network_than_it_needs_is_refused():
    with pytest.raises(ValueError, match="inputs=16, the number of its features, and outputs=2"):
        SelfTuning(MLP().init(0), MLP())


def test_a_view_without_the_run_length_is_refused():
    schedule = SelfTuning(weights())
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="total_steps"):
        meta_lr.ControlledLR(optimizer, schedule)
    assert isinstance(StepView(schedule, 0), StepView)


def straight(bounds, per_lr, total_steps):
    """Return the spread at each step of weights of size 1 that move straight on, the loss falling.

    Args:
        bounds: They alone set the learning rate.
        per_lr: Size of an update per unit of learning rate.
        total_steps: Length of the run.
    """
    lr, at = bounds.begin(FLOATS, 2.0, per_lr, total_steps)
    place, average, update, spreads = 0.0, 0.0, 0.0, []
    for step in range(total_steps):
        average += (place - average) / (total_steps / 20 + 1)
        spreads.append(place - average)
        seen = Signals(gradient=1.0, update=update, alignment=0.0, spread=spreads[-1])
        update = lr * per_lr
        place += update
        loss = 2.0 * math.exp(-step / 100)
        lr, at = bounds.step(FLOATS, at, Moment(loss, step, total_steps, seen), 0.0, 0.0)
    return spreads


@pytest.mark.parametrize("per_lr", [0.01, 1.0, 1e4])
@pytest.mark.parametrize("bounds", [Integrator(), Integrator(target=0.05, power=1.0)])
def test_the_bounds_alone_lead_the_spread_of_the_weights_to_a_target_that_falls(bounds, per_lr):
    spreads = straight(bounds, per_lr, 1000)
    for step in (400, 500, 600):
        target = bounds.target * (1 - step / 1000) ** bounds.power
        assert spreads[step] == pytest.approx(target, rel=0.25)  # it follows by the window
