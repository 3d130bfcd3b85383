"""Each parameter group of an optimizer keeps a learning rate of its own, whatever happens to it."""

import copy

import pytest
import torch

from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.basic import Constant
from meta_lr.optim.groups import separate
from meta_lr.training.loop import train
from tests.controllers import Stepped, Tenth
from tests.steering import rates
from tests.toys import Toy

BOTH = pytest.mark.parametrize("controller", [Tenth(), Stepped()], ids=["loss", "policy"])


def weight():
    p = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    p.grad = torch.ones_like(p)
    return p


def shared(*groups, controller, lr=0.5, kind=torch.optim.Adam):
    """A scheduler on groups that share one tensor as their learning rate."""
    tensor = torch.tensor(lr, dtype=torch.float64)
    optimizer = kind([{"params": [weight()], **group} for group in groups], lr=tensor)
    return ControlledLR(optimizer, controller), optimizer


def drive(scheduler, num_steps, loss=1.0):
    for _ in range(num_steps):
        if scheduler.controller == Tenth():
            scheduler.observe(loss)
        scheduler.optimizer.step()
        scheduler.step()


# One tensor for several groups


@BOTH
def test_groups_that_share_a_tensor_get_learning_rates_of_their_own(controller):
    scheduler, optimizer = shared({}, {"lr_scale": 0.1}, {"lr_scale": 3.0}, controller=controller)
    drive(scheduler, 3)
    expected = 0.1 if controller == Tenth() else 0.4
    assert rates(optimizer) == pytest.approx([expected, 0.1 * expected, 3.0 * expected])


@BOTH
def test_the_first_group_keeps_its_tensor_because_compiled_steps_read_it(controller):
    tensor = torch.tensor(0.5)
    groups = [{"params": [weight()], "lr": tensor} for _ in range(2)]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    ControlledLR(optimizer, controller)
    assert optimizer.param_groups[0]["lr"] is tensor
    assert optimizer.param_groups[1]["lr"] is not tensor


def test_a_state_dict_with_a_shared_tensor_is_separated_when_it_is_loaded():
    scheduler, optimizer = shared({}, {"lr_scale": 0.1}, controller=Tenth())
    other = shared({}, {"lr_scale": 0.1}, controller=Tenth())[1]
    state = other.state_dict()
    state["param_groups"][1]["lr"] = state["param_groups"][0]["lr"]
    optimizer.load_state_dict(state)
    drive(scheduler, 1)
    assert rates(optimizer) == pytest.approx([0.1, 0.01])


def test_separate_groups_and_plain_numbers_are_left_alone():
    first, second = torch.tensor(0.1), torch.tensor(0.2)
    groups = [{"params": [weight()], "lr": lr} for lr in (first, second, 0.3)]
    optimizer = torch.optim.SGD(groups, lr=0.4)
    separate(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [first, second, 0.3]
    assert optimizer.param_groups[1]["lr"] is second
    assert optimizer.defaults["lr"] == 0.4


def test_our_own_loop_separates_them_too():
    made = []

    def shares(params):
        groups = [{"params": params[:1]}, {"params": params[1:], "lr_scale": 0.1}]
        made.append(torch.optim.SGD(groups, lr=torch.tensor(0.5)))
        return made[0]

    train(Toy(), shares, Constant(0.2), total_steps=1)
    assert rates(made[0]) == pytest.approx([0.2, 0.02])


@BOTH
def test_two_optimizers_that_share_a_tensor_get_learning_rates_of_their_own(controller):
    tensor = torch.tensor(0.5)
    first, second = (torch.optim.Adam([weight()], lr=tensor) for _ in range(2))
    schedulers = [ControlledLR(optimizer, controller) for optimizer in (first, second)]
    assert first.param_groups[0]["lr"] is tensor
    before = rates(second)
    drive(schedulers[0], 3)
    assert rates(first) != rates(second) == before
    drive(schedulers[1], 3)
    assert rates(first) == rates(second)


@BOTH
def test_a_new_scheduler_or_optimizer_takes_over_the_tensor_of_the_old_one(controller):
    tensor = torch.tensor(0.5)
    optimizer = torch.optim.Adam([weight()], lr=tensor)
    for _ in range(2):
        ControlledLR(optimizer, controller)
        assert optimizer.param_groups[0]["lr"] is tensor
    del optimizer
    optimizer = torch.optim.Adam([weight()], lr=tensor)
    ControlledLR(optimizer, controller)
    assert optimizer.param_groups[0]["lr"] is tensor


def test_groups_with_views_of_one_number_get_learning_rates_of_their_own():
    number = torch.tensor([0.5])
    groups = [{"params": [weight()], "lr": number[0], "lr_scale": scale} for scale in (1.0, 0.1)]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    drive(ControlledLR(optimizer, Tenth()), 1)
    assert rates(optimizer) == pytest.approx([0.1, 0.01])


@BOTH
def test_groups_without_parameters_keep_their_ratios_when_a_state_is_loaded(controller):
    groups = [{"params": [], "lr": 0.1}, {"params": [weight()], "lr": 0.2}, {"params": []}]
    optimizer = torch.optim.SGD(groups, lr=0.4)
    scheduler = ControlledLR(optimizer, controller)
    drive(scheduler, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    drive(scheduler, 1)
    assert rates(optimizer) == pytest.approx([factor * rates(optimizer)[0] for factor in (1, 2, 4)])


# Groups that are added, or replaced


@BOTH
def test_a_group_added_later_has_the_initial_learning_rate_of_the_optimizer(controller):
    scheduler, optimizer = shared({}, controller=controller)
    drive(scheduler, 3)
    optimizer.add_param_group({"params": [weight()]})
    optimizer.add_param_group({"params": [weight()], "lr_scale": 0.5})
    drive(scheduler, 1)
    expected = 0.1 if controller == Tenth() else 0.5
    assert rates(optimizer) == pytest.approx([expected, expected, 0.5 * expected])
    assert [float(group["initial_lr"]) for group in optimizer.param_groups] == [0.5] * 3
    optimizer.add_param_group({"params": [weight()]})
    drive(scheduler, 1)
    assert rates(optimizer)[3] == rates(optimizer)[0]


@BOTH
def test_a_group_that_replaces_another_has_its_own_ratio(controller):
    optimizer = torch.optim.SGD(
        [{"params": [weight()]}, {"params": [weight()], "lr": 0.05}], lr=0.5
    )
    scheduler = ControlledLR(optimizer, controller)
    drive(scheduler, 2)
    assert rates(optimizer)[1] == pytest.approx(0.1 * rates(optimizer)[0])
    del optimizer.param_groups[1]
    optimizer.add_param_group({"params": [weight()], "lr": 0.25})
    drive(scheduler, 2)
    assert rates(optimizer)[1] == pytest.approx(0.5 * rates(optimizer)[0])


@BOTH
def test_groups_that_change_places_keep_their_ratios(controller):
    optimizer = torch.optim.SGD(
        [{"params": [weight()], "lr": 0.5}, {"params": [weight()], "lr": 0.05}], lr=0.5
    )
    scheduler = ControlledLR(optimizer, controller)
    drive(scheduler, 2)
    optimizer.param_groups.reverse()
    drive(scheduler, 2)
    assert rates(optimizer)[1] == pytest.approx(10.0 * rates(optimizer)[0])


@BOTH
def test_loading_an_optimizers_state_keeps_ratios_and_scales(controller):
    def make():
        groups = [{"params": [weight()]}, {"params": [weight()], "lr": 0.1}]
        optimizer = torch.optim.SGD([*groups, {"params": [weight()], "lr_scale": 3.0}], lr=0.5)
        return ControlledLR(optimizer, controller), optimizer

    first, optimizer = make()
    drive(first, 3)
    states = copy.deepcopy((optimizer.state_dict(), first.state_dict()))
    drive(first, 2)
    second, other = make()
    other.load_state_dict(states[0])
    second.load_state_dict(states[1])
    drive(second, 2)
    assert rates(other) == rates(optimizer)
    assert rates(other)[1:] == pytest.approx([0.2 * rates(other)[0], 3.0 * rates(other)[0]])
