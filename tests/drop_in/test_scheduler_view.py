"""What a controller sees through `ControlledLR`, and what is refused."""

import math
import re
from contextlib import nullcontext

import pytest
import torch

from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.optim import rules
from meta_lr.protocol import Need, UndeclaredError
from tests.controllers import Restart, Says, Tenth, Witness
from tests.steering import build, drive, rates

NAN, INF = math.nan, math.inf


def test_params_gradients_and_direction_come_in_group_order_with_zeros_for_missing_ones():
    params = [torch.nn.Parameter(torch.full((2,), float(i))) for i in range(3)]
    optimizer = torch.optim.SGD(
        [{"params": params[2:]}, {"params": params[:2]}], lr=0.1, weight_decay=0.5
    )
    params[2].grad, params[1].grad = torch.full((2,), 20.0), torch.full((2,), 10.0)
    scheduler = ControlledLR(optimizer, Witness())
    optimizer.step()
    seen = scheduler.state_dict()["state"]
    assert [p[0].item() for p in seen["params"]] == [2.0, 0.0, 1.0]
    assert [g[0].item() for g in seen["grads"]] == [20.0, 0.0, 10.0]
    assert [d[0].item() for d in seen["direction"]] == [21.0, 0.0, 10.5]


def test_it_sees_clipped_gradients():
    scheduler, optimizer = build(Witness(), num_groups=4)
    weights = [group["params"][0] for group in optimizer.param_groups]
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    assert [g.item() for g in scheduler.state_dict()["state"]["grads"]] == pytest.approx([0.5] * 4)


def test_the_direction_is_what_the_optimizer_subtracts_per_unit_of_rate():
    scheduler, optimizer = build(Witness(0.25), kind=torch.optim.Adam)
    for _ in range(3):
        weight = optimizer.param_groups[0]["params"][0]
        before = weight.item()
        expected = rules.direction(optimizer)[0].item()
        optimizer.step()
        assert scheduler.state_dict()["state"]["direction"][0].item() == expected
        assert before - weight.item() == pytest.approx(0.25 * expected, abs=1e-15)


def test_it_is_asked_without_gradients():
    class Checks(Says):
        def __call__(self, view, state):
            assert not torch.is_grad_enabled()
            return 0.1, state

    _, optimizer = build(Checks(None))
    optimizer.step()
    optimizer.step(lambda: 1.0)
    assert torch.is_grad_enabled()


def test_reading_what_is_not_declared_raises():
    class Liar(Tenth):
        needs = Need.PARAMS

    _, optimizer = build(Liar())
    with pytest.raises(UndeclaredError, match="Liar reads loss but declares PARAMS"):
        optimizer.step()


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (
            Need.HORIZON,
            "Says needs the length of the run: pass total_steps= (optimizer steps) [HORIZON]",
        ),
        (
            Need.EPOCHS,
            "Says needs the length of an epoch: pass steps_per_epoch= (optimizer steps) [EPOCHS]",
        ),
        (
            Need.META | Need.TRIALS | Need.LOSS,
            "Says needs losses on other batches and training steps on a copy: "
            "pass sandbox=meta_lr.Sandbox(model, optimizer, loss_fn, batch) [META, TRIALS]",
        ),
        (
            Need.TRIALS | Need.HORIZON,
            "Says needs training steps on a copy and the length of the run: "
            "pass sandbox=meta_lr.Sandbox(model, optimizer, loss_fn, batch) "
            "and total_steps= (optimizer steps) [TRIALS, HORIZON]",
        ),
    ],
)
def test_needs_that_cannot_be_served_fail_at_construction(needs, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build(Says(0.1, needs))


def test_the_sandbox_is_told_the_step_before_each_question():
    class Log:
        def __init__(self):
            self.steps = []

        def at(self, step):
            self.steps.append(step)

        def timed(self):
            return nullcontext()

    class Asks(Says):
        def __call__(self, view, state):
            return 0.1 * len(view.sandbox.steps), state

    log = Log()
    scheduler, _ = build(Asks(None, Need.META), sandbox=log)
    assert drive(scheduler, [1.0, 1.0, 1.0]) == pytest.approx([0.1, 0.2, 0.3])
    assert log.steps == [0, 1, 2]


def test_a_rate_learned_with_another_optimizer_is_refused():
    build(Says(0.1, family="adam"), kind=torch.optim.Adam)
    with pytest.raises(ValueError, match=r"learned with sgd.*load_pretrained\(..., peak=...\)"):
        build(Says(0.1, family="sgd"), kind=torch.optim.Adam)


@pytest.mark.parametrize("rate", [-0.1, NAN, INF, torch.tensor(-1.0)])
def test_an_impossible_rate_names_controller_step_and_value_and_changes_nothing(rate):
    scheduler, optimizer = build(Says(0.1))
    optimizer.step()
    scheduler.controller = Says(rate)
    before = optimizer.param_groups[0]["params"][0].item()
    with pytest.raises(
        ValueError, match=rf"Says returned the learning rate {float(rate)} at step 1"
    ):
        optimizer.step()
    assert scheduler.last_epoch == 1
    assert optimizer.param_groups[0]["params"][0].item() == before


def test_a_controller_that_raises_leaves_the_scheduler_as_it_was_before_the_call():
    class Stops(Tenth):
        def __call__(self, view, state):
            raise KeyboardInterrupt

    scheduler, optimizer = build()
    drive(scheduler, [1.0])
    scheduler.observe(2.0)
    before = scheduler.state_dict()
    scheduler.controller = Stops()
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    scheduler.controller = Tenth()
    assert scheduler.state_dict() == before
    optimizer.step()
    assert rates(optimizer) == pytest.approx([0.2])


def test_an_average_is_restarted_from_after_the_step():
    _, optimizer = build(Restart(), num_groups=2)
    optimizer.step()
    after = [group["params"][0].item() for group in optimizer.param_groups]
    assert after == pytest.approx([0.5 * (1 - 0.1) + 1] * 2)
    optimizer.step()
    after = [group["params"][0].item() for group in optimizer.param_groups]
    assert after == pytest.approx([0.5 * (1.45 - 0.1) + 1] * 2)
