"""`ControlledLR` in people's own loops: which rate does each step take?"""

import math

import pytest
import torch

from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.protocol import Need
from tests.controllers import Restart, Says, Tenth, Witness
from tests.steering import build, drive, rates

NAN, INF = math.nan, math.inf


def test_the_rate_of_a_step_follows_from_the_loss_of_that_step():
    scheduler, optimizer = build()
    assert drive(scheduler, [1.0, 2.0, 4.0]) == pytest.approx([0.1, 0.2, 0.4])
    weight = optimizer.param_groups[0]["params"][0]
    assert weight.item() == pytest.approx(1 - 0.1 - 0.2 - 0.4)
    assert scheduler.get_last_lr() == pytest.approx([0.4])


def test_it_is_one_of_torchs_schedulers_and_leaves_the_rate_alone_at_first():
    scheduler, optimizer = build(lr=0.5)
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
    assert scheduler.last_epoch == 0
    assert rates(optimizer) == scheduler.get_last_lr() == [0.5]


def test_only_real_steps_advance_it():
    scheduler, optimizer = build()
    for loss in (1.0, 2.0):
        scheduler.observe(loss)
        optimizer.step()
        for _ in range(3):  # as accelerate does with three processes
            scheduler.step()
    assert scheduler.last_epoch == 2
    assert scheduler.state_dict()["state"] == {"asked": 2}
    assert rates(optimizer) == pytest.approx([0.2])


@pytest.mark.parametrize(
    ("losses", "expected", "held"),
    [
        ([[1.0, 3.0], [2.0, 4.0, 6.0]], [0.2, 0.4], 0),  # accumulation
        ([[1.0, NAN, 3.0, INF], [-INF, 5.0]], [0.2, 0.5], 0),
        ([1.0, NAN, [INF, NAN], 3.0], [0.1, 0.1, 0.1, 0.3], 2),
        ([NAN, 3.0], [0.5, 0.3], 1),  # nothing of our own to hold yet
        ([1.0, [], 2.0], [0.1, 0.1, 0.2], 0),  # nothing observed: the group's own
    ],
)
def test_it_sees_the_mean_of_the_finite_losses_since_the_last_step(losses, expected, held):
    scheduler, _ = build()
    assert drive(scheduler, losses) == pytest.approx(expected)
    assert scheduler.held == held
    assert scheduler.last_epoch == len(losses)


def test_losses_of_different_types_are_averaged():
    scheduler, optimizer = build()
    for loss in (1.0, torch.tensor(3.0), torch.tensor([5.0], dtype=torch.bfloat16)):
        scheduler.observe(loss)
    optimizer.step()
    assert rates(optimizer) == pytest.approx([0.3])


def test_a_rate_set_by_hand_stands_while_nothing_is_observed():
    scheduler, optimizer = build()
    drive(scheduler, [1.0])
    optimizer.param_groups[0]["lr"] = 0.77
    assert drive(scheduler, [[], 2.0]) == pytest.approx([0.77, 0.2])


def test_a_loss_given_to_step_counts_for_the_next_step():
    scheduler, optimizer = build(lr=0.5)
    taken = []
    for loss in (1.0, 2.0, 4.0):
        optimizer.step()
        taken += rates(optimizer)
        scheduler.step(torch.tensor(loss))
    assert taken == pytest.approx([0.5, 0.1, 0.2])


def test_an_observation_is_a_copy_without_a_graph():
    scheduler, optimizer = build()
    loss = torch.ones((1, 1), requires_grad=True) * 2.0
    scheduler.observe(loss)
    assert not scheduler.state_dict()["pending"][0].requires_grad
    with torch.no_grad():
        loss.mul_(100.0)  # a static buffer, or a division for accumulation
    optimizer.step()
    assert rates(optimizer) == pytest.approx([0.2])


def test_a_loss_that_is_no_number_is_refused():
    scheduler, _ = build()
    with pytest.raises(ValueError, match=r"shape \(2,\).*observe\(loss.mean\(\)\)"):
        scheduler.observe(torch.ones(2))
    with pytest.raises(TypeError, match="type dict was observed"):
        scheduler.observe({"loss": 1.0})


def test_a_loss_on_the_host_is_read_just_once(monkeypatch):
    reads = []
    for name in ("item", "tolist", "__float__", "__bool__"):
        original = getattr(torch.Tensor, name)

        def read(tensor, name=name, original=original):
            reads.append(name)
            return original(tensor)

        monkeypatch.setattr(torch.Tensor, name, read, raising=False)
    scheduler, optimizer = build(Says(0.1, Need.LOSS))
    scheduler.observe(torch.tensor(1.0))
    optimizer.step()
    assert reads == ["item"]


class OnDevice(torch.Tensor):
    """A loss that says it is on an accelerator; reading its value is an error."""

    device = torch.device("cuda")

    def item(self):
        raise RuntimeError("the loss was read")


def test_a_loss_on_a_device_is_not_read_before_the_step():
    scheduler, optimizer = build(Says(0.1, Need.LOSS))
    scheduler.observe(torch.ones(1).as_subclass(OnDevice))
    with pytest.raises(RuntimeError, match="the loss was read"):
        optimizer.step()


# Closures


@pytest.mark.parametrize("how", ["positional", "keyword"])
def test_a_closure_is_run_once_and_its_value_observed_before_the_rate_is_read(how):
    _scheduler, optimizer = build()
    weight = optimizer.param_groups[0]["params"][0]
    runs = []

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = 3.0 * weight
        loss.backward()
        runs.append(loss.item())
        return loss

    returned = optimizer.step(closure) if how == "positional" else optimizer.step(closure=closure)
    assert runs == [3.0]
    assert returned is not None
    assert rates(optimizer) == pytest.approx([0.3])
    assert weight.item() == pytest.approx(1 - 0.3 * 3.0)
    optimizer.step(closure)
    assert rates(optimizer) == pytest.approx([0.1 * 3 * (1 - 0.9)])


def test_a_closure_sees_no_rate_of_a_stale_loss_and_the_controller_the_new_gradient():
    scheduler, optimizer = build(Witness())
    weight = optimizer.param_groups[0]["params"][0]

    def closure():
        weight.grad = torch.full_like(weight, 7.0)
        return 1.0

    optimizer.step(closure)
    assert scheduler.state_dict()["state"]["grads"][0].item() == 7.0


def test_what_a_closure_observes_itself_replaces_its_value():
    scheduler, optimizer = build()
    scheduler.observe(1.0)  # an earlier micro-batch

    def closure():
        scheduler.observe(3.0)
        return torch.tensor(3.0 / 2)  # scaled for accumulation

    optimizer.step(closure)
    assert rates(optimizer) == pytest.approx([0.2])


def test_a_closure_that_returns_nothing_leaves_what_was_observed():
    scheduler, optimizer = build()
    scheduler.observe(2.0)
    optimizer.step(lambda: None)
    assert rates(optimizer) == pytest.approx([0.2])
    optimizer.step(None)
    assert scheduler.last_epoch == 2


class Sharp(torch.optim.Optimizer):
    """Runs its closure twice, as sharpness-aware optimizers do."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def step(self, closure):
        closure()
        return closure()


class Sub(torch.optim.SGD):
    """Goes through torch's hooks twice, and doubles the weights after the inner step."""

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            group["params"][0].data.mul_(2.0)
        return loss


def test_an_optimizer_that_runs_its_closure_twice_still_asks_once():
    scheduler, optimizer = build(kind=Sharp)
    losses = iter([1.0, 9.0, 2.0, 9.0])
    taken = []
    for _ in range(2):
        optimizer.step(lambda: next(losses))
        taken += rates(optimizer)
    assert taken == pytest.approx([0.1, 0.2])
    assert scheduler.last_epoch == 2


def test_a_step_inside_a_step_asks_once_even_after_an_interruption():
    build()  # torch hooks the base class when it is first used
    scheduler, optimizer = build(kind=Sub)
    assert drive(scheduler, [1.0, 2.0]) == pytest.approx([0.1, 0.2])
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    optimizer.step(lambda: 3.0)
    assert rates(optimizer) == pytest.approx([0.3])
    assert scheduler.last_epoch == 3
    witness, optimizer = build(Restart(), kind=Sub)
    optimizer.step()
    assert witness.last_epoch == 1
    assert optimizer.param_groups[0]["params"][0].item() == pytest.approx(0.5 * 2 * (1 - 0.1) + 1)


def test_lbfgs_is_refused():
    weight = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(TypeError, match="LBFGS evaluates its closure many times per step"):
        ControlledLR(torch.optim.LBFGS([weight]), Tenth())


# What the controller is shown
