"""`ControlledLR` among torch's own: groups, tensor rates, sequences, chains, warnings, copies."""

import copy
import gc
import math
import weakref

import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, ExponentialLR, LinearLR, SequentialLR

from meta_lr.drop_in.scheduler import ControlledLR
from tests.controllers import Says, Stepped, Tenth
from tests.steering import build, drive, grouped, rates

NAN, INF = math.nan, math.inf


def test_groups_keep_their_ratio_unless_they_have_a_scale():
    scheduler, optimizer = grouped({}, {"lr": 0.05}, {"lr": 0.3, "lr_scale": 3.0}, {"lr": 0.0})
    drive(scheduler, [2.0])
    assert rates(optimizer) == pytest.approx([0.2, 0.02, 0.6, 0.0])
    scheduler, optimizer = grouped({"lr_scale": 0.5}, {}, controller=Stepped())
    assert rates(optimizer) == pytest.approx([0.05, 0.1])


def test_a_zero_first_rate_needs_scales():
    with pytest.raises(ValueError, match='set "lr_scale" in each group'):
        grouped({"lr": 0.0}, {"lr": 0.1})
    scheduler, optimizer = grouped({"lr_scale": 1.0}, {"lr_scale": 2.0}, lr=0.0)
    drive(scheduler, [1.0])
    assert rates(optimizer) == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("controller", [Tenth(), Stepped()])
def test_a_group_may_be_added_later(controller):
    scheduler, optimizer = grouped({}, lr=0.5, controller=controller)
    drive(scheduler, [1.0])
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.25})
    drive(scheduler, [2.0])
    assert rates(optimizer) == pytest.approx([0.2, 0.1])
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
    drive(scheduler, [3.0])
    assert rates(optimizer) == pytest.approx([0.3, 0.15, 0.3])
    assert scheduler.get_last_lr() == pytest.approx([0.3, 0.15, 0.3])


@pytest.mark.parametrize("controller", [Tenth(), Stepped()])
def test_tensor_rates_are_written_in_place_and_floats_stay_floats(controller):
    tensor = torch.tensor(0.25, dtype=torch.float64)
    scheduler, optimizer = grouped({}, {"lr": tensor}, lr=0.5, controller=controller)
    last = scheduler.get_last_lr()
    drive(scheduler, [1.0, 2.0])
    first, second = (group["lr"] for group in optimizer.param_groups)
    assert type(first) is float
    assert second is tensor
    assert (first, second.item()) == (0.1 * 2.0, 0.5 * (0.1 * 2.0))  # float64: no digit lost
    assert last[1] is not tensor  # copies, which later steps do not change
    assert scheduler.get_last_lr()[1] is not tensor


def test_a_tensor_may_be_the_answer():
    _, optimizer = build(Says(torch.tensor(0.25)))
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert type(optimizer.param_groups[0]["lr"]) is float


# Beside torch's schedulers


def after_warm_up(controller, losses, *, observe):
    """Three steps of torch's warm-up, then `controller`; return the rates and ours."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.8)
    warmup = LinearLR(optimizer, start_factor=0.25, end_factor=1.0, total_iters=3)
    ours = ControlledLR(optimizer, controller)
    scheduler = SequentialLR(optimizer, [warmup, ours], milestones=[3])
    assert ours.last_epoch == -1
    taken = []
    for loss in losses:
        if observe:
            ours.observe(loss)
        optimizer.step()
        taken += rates(optimizer)
        scheduler.step()
    return taken, ours


def test_warm_up_by_torch_and_then_ours():
    taken, ours = after_warm_up(Tenth(), [9.0, 9.0, 9.0, 1.0, 2.0, 3.0], observe=True)
    assert taken == pytest.approx([0.2, 0.4, 0.6, 0.1, 0.2, 0.3])
    assert ours.last_epoch == 3
    assert ours.state_dict()["state"] == {"asked": 3}


@pytest.mark.parametrize("observe", [False, True])
def test_a_policy_after_torchs_warm_up_begins_at_its_own_step_0(observe):
    taken, _ = after_warm_up(Stepped(), [9.0] * 6, observe=observe)
    assert taken == pytest.approx([0.2, 0.4, 0.6, 0.1, 0.2, 0.3])


def test_restarting_the_count_restarts_the_controller():
    scheduler, _ = build()
    drive(scheduler, [1.0, 1.0])
    scheduler._update_lr(0)  # what SequentialLR calls
    drive(scheduler, [1.0])
    assert scheduler.last_epoch == 1
    assert scheduler.state_dict()["state"] == {"asked": 1}
    scheduler._update_lr(7)
    drive(scheduler, [1.0])
    assert scheduler.last_epoch == 8


def test_in_a_chain_ours_has_the_last_word():
    scheduler, optimizer = build(lr=0.8)
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.5), scheduler])
    taken = []
    for loss in (1.0, 2.0, NAN, 3.0):
        taken += drive(scheduler, [loss])
        chain.step()
    assert taken == pytest.approx([0.1, 0.2, 0.2, 0.3])


def test_a_policy_in_a_chain_has_the_last_word_too():
    scheduler, optimizer = build(Stepped())
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.5), scheduler])
    taken = []
    for _ in range(3):
        taken += rates(optimizer)
        optimizer.step()
        chain.step()
    assert taken == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("also_step", [False, True])
def test_a_policy_advances_once_per_step_in_a_loop_that_observes(also_step):
    scheduler, optimizer = build(Stepped())
    taken = []
    for _ in range(4):
        scheduler.observe(1.0)
        scheduler.observe(1.0)  # accumulation
        optimizer.step()
        taken += rates(optimizer)
        if also_step:
            scheduler.step()
    assert taken == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert scheduler.state_dict()["state"]["asked"] == 4 + also_step


def test_a_policy_may_be_stepped_per_epoch_as_in_torch():
    scheduler, optimizer = build(Stepped())
    taken = []
    for _ in range(2):
        for _ in range(3):
            optimizer.step(lambda: 1.0)
            taken += rates(optimizer)
        scheduler.step()
    assert taken == pytest.approx([0.1] * 3 + [0.2] * 3)


# Warnings, references, copies, compilation


@pytest.mark.parametrize("order", ["observe", "torch", "old", "often"])
def test_no_order_warning_fires(order):  # warnings are errors here
    scheduler, optimizer = build()
    for loss in (1.0, 2.0, 3.0):
        if order == "old":
            scheduler.step(loss)
        if order == "observe":
            scheduler.observe(loss)
        optimizer.step()
        for _ in range({"torch": 1, "often": 3}.get(order, 0)):
            scheduler.step(loss)
    assert scheduler.last_epoch == 3


def test_an_int_is_torchs_deprecated_epoch_for_a_policy():
    scheduler, optimizer = build(Stepped())
    optimizer.step()
    with pytest.warns(UserWarning, match="epoch parameter"):
        scheduler.step(4)
    assert scheduler.last_epoch == 4
    assert rates(optimizer) == pytest.approx([0.5])


def test_no_reference_cycles_and_no_hooks_left_behind():
    def run():
        scheduler, optimizer = build()
        drive(scheduler, [1.0, 2.0])
        optimizer.step(lambda: 1.0)
        return weakref.ref(scheduler), optimizer

    gc.collect()
    gc.disable()
    try:
        scheduler, optimizer = run()
        assert scheduler() is None
        assert not optimizer._optimizer_step_pre_hooks
        assert not optimizer._optimizer_step_post_hooks
        optimizer.step()
        optimizer_ref = weakref.ref(optimizer)
        del optimizer
        assert optimizer_ref() is None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_copy_steers_its_own_optimizer():
    scheduler, optimizer = build()
    drive(scheduler, [1.0])
    twin = copy.deepcopy(scheduler)
    assert drive(twin, [2.0]) == pytest.approx([0.2])
    assert rates(optimizer) == pytest.approx([0.1])
    assert (scheduler.last_epoch, twin.last_epoch) == (1, 2)


def test_a_copy_of_the_optimizer_is_free():
    _, optimizer = build()
    twin = copy.deepcopy(optimizer)
    twin.step(lambda: 3.0)
    assert rates(twin) == [0.5]


def test_a_compiled_step_asks_the_controller_too():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    scheduler, optimizer = build()
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    taken = []
    for loss in (1.0, 2.0, 4.0):
        scheduler.observe(torch.tensor(loss))
        step()
        taken += rates(optimizer)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    assert taken == pytest.approx([0.1, 0.2, 0.4])
    assert optimizer.param_groups[0]["params"][0].item() == pytest.approx(1 - 0.7)


# State
