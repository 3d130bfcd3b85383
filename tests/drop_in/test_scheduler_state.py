"""The state dict of `ControlledLR`: saved, loaded, refused."""

import io
import math
import warnings

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, SequentialLR

from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.protocol import Average
from tests.controllers import Momentum, Says, Stepped, Tenth, Witness
from tests.steering import build, drive, grouped, rates

NAN, INF = math.nan, math.inf


def through_a_file(state, weights_only):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("controller", [Momentum(), Stepped(), Witness()])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_five_steps_and_three_after_a_restart_are_eight(kind, controller, weights_only):
    losses = [1.0, [2.0, 4.0], NAN, 3.0, [8.0, NAN], 6.0, [], 2.0]
    scheduler, _ = build(controller, kind=kind)
    expected = drive(scheduler, losses)

    first, optimizer = build(controller, kind=kind)
    drive(first, losses[:4])
    first.observe(torch.tensor(8.0, dtype=torch.float64))  # saved in mid-accumulation
    saved = {"scheduler": first.state_dict(), "optimizer": optimizer.state_dict()}
    saved = through_a_file(saved, weights_only)
    second, other = build(controller, kind=kind)
    for group, source in zip(other.param_groups, optimizer.param_groups, strict=True):
        group["params"][0].data.copy_(source["params"][0].data)
    other.load_state_dict(saved["optimizer"])
    second.load_state_dict(saved["scheduler"])
    assert drive(second, [NAN, *losses[5:]]) == expected[4:]
    assert second.state_dict().keys() == scheduler.state_dict().keys()
    for key in ("last_epoch", "held", "rate", "lrs", "used"):
        assert second.state_dict()[key] == scheduler.state_dict()[key]


def test_a_policy_saved_between_two_steps_goes_on_with_the_next_rate():
    scheduler, _ = build(Stepped())
    drive(scheduler, [1.0, 1.0])
    other, _ = build(Stepped())
    other.load_state_dict(scheduler.state_dict())
    assert drive(other, [1.0, 1.0]) == pytest.approx([0.3, 0.4])


def test_loading_writes_the_saved_rates_again():
    scheduler, _ = grouped({}, {"lr": torch.tensor(0.25)})
    drive(scheduler, [2.0])
    state = scheduler.state_dict()
    other, optimizer = grouped({}, {"lr": torch.tensor(0.25)})
    other.load_state_dict(state)
    assert rates(optimizer) == pytest.approx([0.2, 0.1])
    assert [float(rate) for rate in other.get_last_lr()] == pytest.approx([0.2, 0.1])
    assert drive(other, [NAN]) == pytest.approx([0.2])


def test_a_state_is_a_snapshot_of_plain_values():
    scheduler, _ = build(Witness())
    drive(scheduler, [1.0])
    state = scheduler.state_dict()
    seen = [t.clone() for t in state["state"]["grads"]]
    for tensor in scheduler._state.grads:
        tensor.fill_(99.0)  # controllers may do this to their own tensors
    torch.testing.assert_close(list(state["state"]["grads"]), seen)
    assert state["controller"] == "Witness(rate=0.1)"
    assert not any(isinstance(value, Witness) for value in state.values())


def test_a_sequence_is_saved_and_loaded_with_ours_in_it():
    def make():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.8)
        ours = ControlledLR(optimizer, Stepped())
        last = ExponentialLR(optimizer, 0.5)
        return optimizer, SequentialLR(optimizer, [ours, last], milestones=[2])

    def run(optimizer, scheduler, num_steps):
        taken = []
        for _ in range(num_steps):
            taken += rates(optimizer)
            optimizer.step()
            scheduler.step()
        return taken

    optimizer, scheduler = make()
    expected = run(optimizer, scheduler, 6)
    optimizer, scheduler = make()
    run(optimizer, scheduler, 4)
    saved = through_a_file([optimizer.state_dict(), scheduler.state_dict()], weights_only=True)
    optimizer, scheduler = make()
    optimizer.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    assert run(optimizer, scheduler, 2) == expected[4:]


def test_a_state_of_another_controller_or_optimizer_is_refused():
    scheduler, _ = build(Tenth(0.1))
    state = scheduler.state_dict()
    other, _ = build(Tenth(0.2))
    with pytest.raises(ValueError, match=r"saved with Tenth\(factor=0.1\).*has Tenth\(factor=0.2"):
        other.load_state_dict(state)
    two, _ = build(Tenth(0.1), num_groups=2)
    with pytest.raises(ValueError, match="saved with 1 parameter groups, but the optimizer has 2"):
        two.load_state_dict(state)
    with pytest.raises(ValueError, match="has format 99, but this version reads 1"):
        scheduler.load_state_dict({**state, "format": 99})
    with pytest.raises(ValueError, match="or from another scheduler"):
        scheduler.load_state_dict(ExponentialLR(scheduler.optimizer, 0.5).state_dict())


def test_a_run_may_go_on_from_a_step_without_a_state():
    scheduler, optimizer = build()
    drive(scheduler, [1.0])
    again = ControlledLR(optimizer, Stepped(), last_epoch=3)
    assert again.last_epoch == 4
    assert rates(optimizer) == pytest.approx([0.5])
    del scheduler
    with pytest.raises(KeyError, match="initial_lr"):
        ControlledLR(torch.optim.SGD([torch.ones(1)], lr=0.1), Tenth(), last_epoch=3)
    with pytest.raises(TypeError, match="not an Optimizer"):
        ControlledLR(torch.nn.Linear(1, 1), Stepped())


def test_nothing_is_printed_or_warned_at_exit(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler, _ = build(Says(Average(0.1, 1.0, ())))
        del scheduler
    assert capfd.readouterr() == ("", "")
