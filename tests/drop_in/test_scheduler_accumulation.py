"""A closure's value is one micro-batch's loss: `ControlledLR` warns of it, and of nothing else."""

import copy
import pickle
from functools import partial

import pytest
import torch

from meta_lr.drop_in import advice
from tests.steering import build, rates
from tests.warned import Warned, one


def closures(optimizer, num_steps, *, accumulate=1, before=lambda: None, inside=None, value=1.0):
    """Take steps with a closure, after `accumulate` - 1 backward passes outside of it."""
    weight = optimizer.param_groups[0]["params"][0]

    def backward():
        loss = (weight * value).sum()
        loss.backward()
        return loss

    for _ in range(num_steps):
        optimizer.zero_grad()
        for _ in range(accumulate - 1):
            backward()
        before()
        optimizer.step(inside or backward)  # with a closure


def test_a_closure_that_is_one_of_several_micro_batches_is_warned_of_once():
    _scheduler, optimizer = build()
    with Warned() as warned:
        closures(optimizer, 4, accumulate=3)
    one(
        warned,
        "observe(loss) with each undivided loss",
        "optimizer.step(inside or backward)  # with a closure",
    )
    assert "training_step" in advice.ACCUMULATION


def test_the_first_step_is_warned_of_and_then_nothing_is_watched():
    _scheduler, optimizer = build()
    weight = optimizer.param_groups[0]["params"][0]
    with Warned() as warned:
        closures(optimizer, 1, accumulate=2)
    assert warned.texts == [advice.ACCUMULATION]
    assert not weight._post_accumulate_grad_hooks
    closures(optimizer, 2, accumulate=2)
    assert not weight._post_accumulate_grad_hooks


@pytest.mark.parametrize("replaces", [False, True])
def test_gradients_that_are_changed_between_the_passes_are_accumulated_too(replaces):
    _scheduler, optimizer = build()
    weight = optimizer.param_groups[0]["params"][0]

    def change():
        weight.grad = weight.grad * 0.5 if replaces else weight.grad.mul_(0.5)

    with Warned() as warned:
        closures(optimizer, 2, accumulate=2, before=change)
    assert warned.texts == [advice.ACCUMULATION]


def test_parameters_that_are_frozen_later_do_not_hide_an_accumulation():
    _scheduler, optimizer = build(num_groups=3)
    first, weight, last = (group["params"][0] for group in optimizer.param_groups)

    def backward():
        loss = sum(p for p in (first, weight, last) if p.requires_grad)
        loss.backward()
        return loss.detach()

    def clearing():
        optimizer.zero_grad()
        return backward()

    optimizer.step(clearing)  # no accumulation: warnings are errors here
    first.requires_grad_(False)
    last.requires_grad_(False)
    with Warned() as warned:
        for _ in range(3):
            optimizer.zero_grad()
            backward()
            optimizer.step(backward)
    assert warned.texts == [advice.ACCUMULATION]


def test_observed_micro_batches_are_averaged_without_a_warning():
    scheduler, optimizer = build()
    weight = optimizer.param_groups[0]["params"][0]

    def backward(loss):
        scheduler.observe(loss)
        (weight * loss).backward()
        return weight * loss / 2

    for _ in range(3):
        optimizer.zero_grad()
        backward(1.0)
        optimizer.step(lambda: backward(4.0))
    assert rates(optimizer) == pytest.approx([0.25])


def test_closures_without_accumulation_are_right():
    _scheduler, optimizer = build()
    with Warned() as warned:
        closures(optimizer, 4)
    assert warned.texts == []


@pytest.mark.parametrize("set_to_none", [False, True])
def test_a_gradient_that_is_cleared_inside_the_closure_is_no_accumulation(set_to_none):
    _scheduler, optimizer = build()
    weight = optimizer.param_groups[0]["params"][0]

    def closure():
        optimizer.zero_grad(set_to_none=set_to_none)
        loss = weight * 1.0
        loss.backward()
        return loss

    with Warned() as warned:
        closures(optimizer, 4, accumulate=2, inside=closure)
    assert warned.texts == []


@pytest.mark.parametrize("set_to_none", [False, True])
def test_a_gradient_of_another_loss_that_is_cleared_before_the_step_is_no_accumulation(set_to_none):
    _scheduler, optimizer = build()
    before = partial(optimizer.zero_grad, set_to_none=set_to_none)
    with Warned() as warned:
        closures(optimizer, 4, accumulate=2, before=before)
    assert warned.texts == []


def test_a_gradient_that_is_kept_at_zero_between_steps_is_no_accumulation():
    _scheduler, optimizer = build()
    weight = optimizer.param_groups[0]["params"][0]

    def closure():
        loss = weight * 1.0
        loss.backward()
        return loss

    with Warned() as warned:
        for _ in range(4):
            optimizer.zero_grad(set_to_none=False)
            optimizer.step(closure)
    assert warned.texts == []


@pytest.mark.parametrize("kind", ["penalty", "two passes", "retained graph"])
def test_several_passes_inside_one_closure_are_no_accumulation(kind):
    _scheduler, optimizer = build()
    weight = optimizer.param_groups[0]["params"][0]

    def closure():
        optimizer.zero_grad(set_to_none=False)
        loss = (weight * 0.5).square()
        if kind == "penalty":
            (grad,) = torch.autograd.grad(loss, weight, create_graph=True)
            (loss + grad.square()).backward()
        else:
            loss.backward(retain_graph=kind == "retained graph")
            (loss if kind == "retained graph" else weight * 1.0).backward()
        return loss.detach()

    with Warned() as warned:
        closures(optimizer, 4, inside=closure)
    assert warned.texts == []


class Sharp(torch.optim.SGD):
    """Runs its closure twice with an ascent in between, as sharpness-aware optimizers do."""

    def step(self, closure):
        with torch.enable_grad():
            closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=0.05)
        return super().step(closure)


def test_a_sharpness_aware_optimizer_is_no_accumulation():
    _scheduler, optimizer = build(kind=Sharp)
    weight = optimizer.param_groups[0]["params"][0]

    def closure():
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = weight.square()
            loss.backward()
        return loss.detach()

    with Warned() as warned:
        closures(optimizer, 4, inside=closure)
    assert warned.texts == []


def test_the_hook_on_a_parameter_goes_with_the_scheduler():
    scheduler, optimizer = build()
    weight = optimizer.param_groups[0]["params"][0]

    def closure():
        optimizer.zero_grad()
        loss = weight * 1.0
        loss.backward()
        return loss

    closures(optimizer, 2, accumulate=2, inside=closure)
    assert len(weight._post_accumulate_grad_hooks) == 1
    del scheduler
    assert not weight._post_accumulate_grad_hooks


# Copies


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_warns_for_itself_and_keeps_watching_its_own_optimizer(copied):
    scheduler, optimizer = build()
    closures(optimizer, 2)
    twin = copied(scheduler)
    closures(twin.optimizer, 2)  # no accumulation: warnings are errors here
    with Warned() as warned:
        closures(twin.optimizer, 3, accumulate=2)
    assert len(warned.texts) == 1
    assert twin.last_epoch == 7
    assert scheduler.last_epoch == 2
    with Warned() as warned:
        closures(optimizer, 3, accumulate=2)
    assert len(warned.texts) == 1
