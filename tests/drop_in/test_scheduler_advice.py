"""`ControlledLR` warns once of a probable mistake, with the caller's line, and of nothing right."""

import math

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, SequentialLR

import meta_lr
from meta_lr.drop_in import advice, losses
from meta_lr.drop_in.scheduler import PATIENCE, ControlledLR
from meta_lr.methods.basic import Constant, Cosine
from meta_lr.methods.wrappers import Composite, Warmup
from meta_lr.protocol import Need
from tests.controllers import Says, Stepped, Tenth
from tests.steering import build, drive, rates
from tests.warned import Warned, one

NAN = math.nan


# Losses


def test_a_loss_that_is_never_observed_is_warned_of_at_the_second_step():
    _scheduler, optimizer = build()
    optimizer.step()
    with Warned() as warned:
        for _ in range(5):
            optimizer.step()  # unobserved
    one(warned, "Tenth reads the loss, but none was observed", "optimizer.step()  # unobserved")
    assert rates(optimizer) == [0.5]


def test_a_forgotten_observe_is_warned_of_in_torchs_order_too():
    scheduler, optimizer = build()
    with Warned() as warned:
        for _ in range(3):
            optimizer.step()  # in torch's order
            scheduler.step()
    one(warned, "call scheduler.observe(loss) before each", "optimizer.step()  # in torch's order")


def test_a_loss_observed_after_the_step_is_warned_of_once():
    scheduler, optimizer = build()
    with Warned() as warned:
        for loss in (1.0, 2.0, 3.0):
            optimizer.step()
            scheduler.observe(loss)  # too late
    one(warned, "observe(loss) before optimizer.step()", "scheduler.observe(loss)  # too late")


@pytest.mark.parametrize("controller", [Tenth(), Stepped()], ids=["loss", "policy"])
def test_an_inner_optimizer_that_steps_unseen_is_warned_of_soon(controller):
    scheduler, optimizer = build(controller)
    inner = torch.optim.SGD(optimizer.param_groups[0]["params"], lr=0.1)
    with Warned() as warned:
        for _ in range(3 * PATIENCE):
            scheduler.observe(1.0)  # before the inner step
            inner.step()
    one(
        warned,
        "parameters that changed, but no step",
        "scheduler.observe(1.0)  # before the inner step",
    )


def test_losses_of_many_micro_batches_are_no_unseen_steps():
    scheduler, optimizer = build()
    with Warned() as warned:
        for _ in range(2):
            for _ in range(3 * PATIENCE):
                scheduler.observe(1.0)
            optimizer.step()
    assert warned.texts == []
    assert rates(optimizer) == pytest.approx([0.1])


def test_torchs_warnings_of_a_policy_name_the_callers_line():
    scheduler, optimizer = build(Stepped())
    with Warned() as warned:
        scheduler.step()  # before the optimizer
    assert warned.code == ["scheduler.step()  # before the optimizer"]
    assert "in the opposite order" in warned.texts[0]
    optimizer.step()
    with Warned() as warned:
        scheduler.step(3)  # an epoch
    assert warned.code == ["scheduler.step(3)  # an epoch"]


def test_a_loss_given_to_step_is_never_late():  # warnings are errors here
    scheduler, optimizer = build()
    optimizer.step()
    scheduler.step(1.0)
    scheduler.observe(3.0)
    optimizer.step()
    assert rates(optimizer) == pytest.approx([0.2])


def test_a_loss_that_is_not_finite_is_a_loss():
    scheduler, _ = build()
    assert drive(scheduler, [NAN, NAN, NAN]) == [0.5] * 3


@pytest.mark.parametrize("policy", [Stepped(), Says(0.1)])
def test_a_policy_needs_no_loss(policy):
    _scheduler, optimizer = build(policy)
    with Warned() as warned:
        for _ in range(3):
            optimizer.step()
    assert warned.texts == []


def test_losses_of_a_warm_up_by_torch_are_not_missed():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.8)
    warmup = LinearLR(optimizer, start_factor=0.25, total_iters=3)
    ours = ControlledLR(optimizer, Tenth())
    sequence = SequentialLR(optimizer, [warmup, ours], milestones=[3])
    for step in range(5):
        if step >= 3:
            ours.observe(1.0)
        optimizer.step()
        sequence.step()
    assert rates(optimizer) == pytest.approx([0.1])


# An optimizer that is never stepped


class Outer(torch.optim.SGD):
    """Steps an inner optimizer by a method of its own, as sharpness-aware optimizers do."""

    def second_step(self):
        self.inner = torch.optim.SGD(self.param_groups[0]["params"], lr=0.1)
        self.inner.step()


def test_an_optimizer_that_is_never_stepped_is_warned_of_once():
    scheduler, optimizer = build(kind=Outer)
    with Warned() as warned:
        for _ in range(3 * PATIENCE):
            optimizer.second_step()
            scheduler.step()  # saw no step
    one(
        warned,
        f"step() {PATIENCE} times but no step of its Outer",
        "scheduler.step()  # saw no step",
    )


@pytest.mark.parametrize("controller", [Tenth(), Constant(0.1)])
def test_observe_alone_without_a_step_is_warned_of_and_needs_bounded_memory(
    controller, monkeypatch
):
    monkeypatch.setattr("meta_lr.drop_in.scheduler.MOST", 8)
    scheduler, optimizer = build(controller)
    with Warned() as warned:
        for loss in range(50):
            scheduler.observe(float(loss))  # for ever
    one(warned, "observe() 8 times but no step", "scheduler.observe(float(loss))  # for ever")
    assert len(scheduler._pending) < 8
    optimizer.step()
    expected = 0.1 * sum(range(50)) / 50 if controller == Tenth() else 0.1
    assert rates(optimizer) == pytest.approx([expected])


def test_many_losses_have_the_same_mean_as_few(monkeypatch):
    seen = [1.0, NAN, 3.0, math.inf, 5.0, NAN, 8.0]
    expected = losses.summarise([losses.as_loss(x) for x in seen], list)
    earlier = losses.add_up([losses.as_loss(x) for x in seen[:4]], losses.NONE_EARLIER)
    earlier = losses.add_up([losses.as_loss(torch.tensor(x)) for x in seen[4:6]], earlier)
    got = losses.summarise([losses.as_loss(seen[6])], list, earlier)
    assert got.num_seen == expected.num_seen == 7
    assert got.mean.item() == pytest.approx(expected.mean.item())
    nothing = losses.add_up([losses.as_loss(NAN)], losses.NONE_EARLIER)
    assert losses.summarise([], list, nothing) == (None, 1)


def test_losses_that_were_added_up_are_saved_and_loaded(monkeypatch):
    monkeypatch.setattr("meta_lr.drop_in.scheduler.MOST", 4)
    scheduler, _ = build()
    with Warned():
        for loss in range(6):
            scheduler.observe(float(loss))
    other, optimizer = build()
    other.load_state_dict(scheduler.state_dict())
    optimizer.step()
    assert rates(optimizer) == pytest.approx([0.25])


def test_a_few_calls_of_step_before_the_first_optimizer_step_are_right():
    scheduler, optimizer = build()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    weight = optimizer.param_groups[0]["params"][0]
    for step in range(PATIENCE // 2):
        scheduler.observe(1.0)
        weight.grad = torch.full_like(weight, math.inf if step < 8 else 1.0)
        scaler.scale(weight.new_ones(()))
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
    assert scheduler.last_epoch == PATIENCE // 2 - 8


# The length of the run


HORIZON = Need.LOSS | Need.HORIZON


@pytest.mark.parametrize("controller", [Says(0.1, HORIZON), Cosine(0.1)])
@pytest.mark.parametrize("order", ["observe", "torch"])
def test_a_run_longer_than_total_steps_is_warned_of_at_the_first_step_beyond(controller, order):
    scheduler, optimizer = build(controller, total_steps=5)

    def train(num_steps):
        for _ in range(num_steps):
            if order == "observe":
                scheduler.observe(1.0)
            optimizer.step()  # maybe beyond
            if order == "torch":
                scheduler.step(None if controller == Cosine(0.1) else 1.0)

    train(5)  # warnings are errors here
    with Warned() as warned:
        train(5)
    one(warned, "step 6 is beyond total_steps=5", "optimizer.step()  # maybe beyond")
    assert "(not in epochs)" in warned.texts[0]
    assert "per micro-batch" in warned.texts[0]


@pytest.mark.parametrize(
    "controller",
    [Warmup(Cosine(0.1), 2), Composite((2,), (Constant(0.1), Cosine(0.1)))],
    ids=["warmup", "composite"],
)
def test_a_policy_around_one_of_the_run_length_warns_too(controller):
    scheduler, optimizer = build(controller, total_steps=3)
    with Warned() as warned:
        for _ in range(6):
            optimizer.step()  # of a wrapped policy
            scheduler.step()
    one(warned, "step 4 is beyond total_steps=3", "optimizer.step()  # of a wrapped policy")


def test_a_controller_that_does_not_read_the_run_length_may_run_on():
    scheduler, _ = build(total_steps=2)
    assert drive(scheduler, [1.0] * 4) == pytest.approx([0.1] * 4)


def test_a_resumed_run_warns_only_of_steps_that_are_beyond_and_not_again():
    first, _ = build(Says(0.1, HORIZON), total_steps=3)
    drive(first, [1.0] * 3)
    second, _ = build(Says(0.1, HORIZON), total_steps=3)
    second.load_state_dict(first.state_dict())  # at the end: no warning
    with Warned() as warned:
        drive(second, [1.0])
    assert len(warned.texts) == 1
    third, _ = build(Says(0.1, HORIZON), total_steps=3)
    third.load_state_dict(second.state_dict())
    drive(third, [1.0])
    longer, _ = build(Says(0.1, HORIZON), total_steps=6)
    longer.load_state_dict(third.state_dict())
    drive(longer, [1.0])
    assert longer.last_epoch == 6


@pytest.mark.parametrize("steps", [2.5, -1, "ten", None, math.inf, NAN])
def test_a_length_that_is_no_number_of_steps_is_refused(steps):
    with pytest.raises(ValueError, match=r"^total_steps is .*; pass a whole number of optimizer"):
        build(Cosine(0.1), total_steps=steps)


# The number of an epoch


@pytest.mark.parametrize("number", [int, np.int64])
def test_an_epochs_number_leaves_the_clock_alone(number):
    scheduler, optimizer = build()
    with Warned() as warned:
        for epoch in range(4):
            drive(scheduler, [1.0, 2.0])
            scheduler.step(number(epoch + 1))  # as timm has it
    one(
        warned,
        "step(1) is ignored: Tenth counts",
        "scheduler.step(number(epoch + 1))  # as timm has it",
    )
    assert scheduler.last_epoch == 8
    assert rates(optimizer) == pytest.approx([0.2])
    assert scheduler.state_dict()["state"] == {"asked": 8}


def test_a_learned_schedule_gets_to_its_end_with_epoch_numbers():
    learned = meta_lr.load_pretrained("meta-lr-digits", peak=0.3)

    def last_rate(number_of):
        scheduler, optimizer = build(learned, total_steps=20)
        for epoch in range(4):
            for _ in range(5):
                scheduler.observe(1.0)
                optimizer.step()
            scheduler.step(number_of(epoch))
        return rates(optimizer)

    with Warned():
        assert last_rate(lambda epoch: epoch + 1) == last_rate(lambda epoch: None)


def test_messages_are_short_even_for_long_numbers():
    class AControllerWithALongName(Tenth):
        pass

    long, many = AControllerWithALongName(), 10**9
    texts = [
        advice.ACCUMULATION,
        advice.LATE,
        advice.silent(long),
        advice.no_step(Outer([torch.ones(1)]), f"observe() {many} times"),
        advice.beyond(long, many, many),
        advice.epoch(long, many),
    ]
    assert [text for text in texts if len(text) > 310] == []
