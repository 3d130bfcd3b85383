"""`ControlledLR` under GradScaler, on the CPU: skipped steps, scaled gradients."""

import pytest
import torch

from meta_lr.drop_in.scheduler import ControlledLR
from tests.controllers import Restart, Stepped, Tenth, Witness

SCALE = 1024.0
KINDS = [
    (torch.optim.SGD, {"fused": True}),
    (torch.optim.Adam, {"fused": True}),
    (torch.optim.SGD, {"foreach": False}),
    (torch.optim.Adam, {"foreach": True}),
]


def build(controller, kind, options, lr=0.5):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = kind([weight], lr=lr, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, growth_interval=10_000)
    return ControlledLR(optimizer, controller), optimizer, scaler, weight


def step(scheduler, scaler, weight, loss, *, overflow=False, unscale=False):
    """One step with gradient 3, or infinity."""
    optimizer = scheduler.optimizer
    optimizer.zero_grad()
    scaler.scale((3.0 * weight).sum()).backward()
    if overflow:
        weight.grad[0] = torch.inf
    scheduler.observe(loss)
    if unscale:
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update(SCALE)
    return optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_skipped_step_does_not_advance_and_its_loss_stays(kind, options, unscale):
    scheduler, _, scaler, weight = build(Tenth(), kind, options)
    taken = []
    for loss, overflow in [(1.0, False), (2.0, True), (4.0, False), (5.0, False)]:
        before = weight.detach().clone()
        taken.append(step(scheduler, scaler, weight, loss, overflow=overflow, unscale=unscale))
        assert torch.equal(before, weight) == overflow
    assert taken == pytest.approx([0.1, 0.1, 0.1 * (2.0 + 4.0) / 2, 0.5])
    assert scheduler.last_epoch == 3
    assert scheduler.state_dict()["state"] == {"asked": 3}


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_first_step_may_be_a_skipped_one(kind, options, unscale):
    scheduler, _, scaler, weight = build(Tenth(), kind, options)
    assert step(scheduler, scaler, weight, 1.0, overflow=True, unscale=unscale) == 0.5
    scheduler.step()  # no warning about the order
    assert step(scheduler, scaler, weight, 3.0, unscale=unscale) == pytest.approx(0.2)


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_gradients_and_direction_are_shown_unscaled_and_the_step_is_the_same(
    kind, options, unscale
):
    scheduler, _, scaler, weight = build(Witness(0.25), kind, options)
    plain = torch.nn.Parameter(torch.ones(2))
    optimizer = kind([plain], lr=0.25, **options)
    for _ in range(3):
        step(scheduler, scaler, weight, 1.0, unscale=unscale)
        seen = scheduler.state_dict()["state"]
        before = plain.detach().clone()
        plain.grad = torch.full_like(plain, 3.0)
        optimizer.step()
        assert torch.equal(seen["grads"][0], torch.full((2,), 3.0))
        torch.testing.assert_close(seen["direction"][0], (before - plain.detach()) / 0.25)
        assert torch.equal(weight, plain)


@pytest.mark.parametrize("options", [{"fused": True}, {"fused": False}])
def test_no_average_is_taken_at_a_skipped_step(options):
    scheduler, _, scaler, weight = build(Restart(), torch.optim.SGD, options)
    step(scheduler, scaler, weight, 1.0, overflow=True)
    assert torch.equal(weight.detach(), torch.ones(2))
    step(scheduler, scaler, weight, 1.0)
    restarted = torch.full((2,), 0.5 * (1 - 0.1 * 3.0) + 1.0)
    torch.testing.assert_close(weight.detach(), restarted)
    step(scheduler, scaler, weight, 1.0, overflow=True)
    torch.testing.assert_close(weight.detach(), restarted)


@pytest.mark.parametrize("options", [{"fused": True}, {"fused": False}])
def test_a_policy_in_a_loop_that_observes_does_not_advance_on_a_skip(options):
    scheduler, _, scaler, weight = build(Stepped(), torch.optim.SGD, options)
    overflows = [True, False, True, False]
    taken = [step(scheduler, scaler, weight, 1.0, overflow=overflow) for overflow in overflows]
    assert taken == pytest.approx([0.1, 0.1, 0.2, 0.2])
