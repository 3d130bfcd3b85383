"""The self-tuning schedule: losses and gradients that are no use, and numbers of an accelerator."""

import math

import pytest
import torch

from meta_lr import ControlledLR, host
from meta_lr.drop_in.losses import summarise
from meta_lr.methods.self_tuning.integrator import Integrator
from meta_lr.protocol import HostLoss
from tests.steered import STEPS, Steered
from tests.warned import Warned, one

FIRST = Integrator().start / math.sqrt(STEPS)  # norm of the first update over that of the weights


@pytest.mark.parametrize("at", [0, 9])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_reaches_neither_state_nor_learning_rate(bad, at):
    def spoil(run):
        if run.step == at:
            run.scheduler._pending[0] = HostLoss(bad, torch.float64)

    run = Steered().run(spoil)
    assert all(map(math.isfinite, run.rates))
    assert all(map(math.isfinite, [*run.state.scale, *torch.cat(run.state.memory).tolist()]))
    assert run.state.num_alarms == (at > 0) and run.scheduler.held == 0


@pytest.mark.parametrize("at", [0, 9])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_and_weights_that_are_not_finite_reach_neither_state_nor_learning_rate(bad, at):
    def spoil(run):
        if run.step == at:
            run.net[0].weight.grad[0, 0] = bad

    run = Steered(size=0.0)
    run.run(spoil)
    assert run.net[0].weight.isnan().any() or run.net[0].weight.isinf().any()
    assert all(map(math.isfinite, run.rates))
    assert all(map(math.isfinite, [*run.state.scale, *torch.cat(run.state.memory).tolist()]))


def test_a_loss_that_becomes_negative_is_no_longer_read_and_said_once():
    def shifted(run):
        loss = run.scheduler._pending[0].item()
        run.scheduler._pending[0] = HostLoss(loss - 3.0 * (run.step > 9), torch.float64)

    run = Steered()
    with Warned() as warned:
        run.run(shifted)
    one(warned, "the loss became negative", "(act or self.optimizer.step)()")
    assert run.state.num_negative == STEPS - 11  # it reads one step late
    assert run.state.num_alarms == run.state.num_retreats == 0
    assert all(map(math.isfinite, run.rates)) and max(run.rates[10:]) < 10 * max(run.rates[:10])


def test_a_run_whose_loss_is_negative_from_the_start_raises_no_alarm():
    def shifted(run):
        run.scheduler._pending[0] = HostLoss(-5.0, torch.float64)

    run = Steered(size=0.0)
    with pytest.warns(UserWarning, match="negative"):
        run.run(shifted)
    assert run.state.num_alarms == run.state.num_retreats == 0
    assert run.moved[0] == pytest.approx(FIRST, rel=1e-9) and max(run.rates) > run.rates[0]


def test_a_loss_of_zero_counts_as_the_smoothed_one_and_only_at_that_step():
    def zero(run):
        if run.step % 2:
            run.scheduler._pending[0] = HostLoss(0.0, torch.float64)

    run, plain = Steered().run(zero), Steered().run()
    assert run.state.num_negative == 0
    assert abs(run.state.scale[5] - plain.state.scale[5]) < 0.3  # the smoothed logarithm


def test_a_run_that_goes_on_beyond_its_end_has_a_learning_rate_of_zero():
    run = Steered(steps=STEPS)
    run.run()
    with pytest.warns(UserWarning, match="beyond total_steps"):
        run.run()
    assert run.rates[STEPS:] == [0.0] * STEPS


def decayed(params):
    return torch.optim.AdamW(params, lr=1.0, weight_decay=0.1)


def halved(params):
    """Momentum, with half of the learning rate in the second group."""
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.5}]
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9, weight_decay=0.1)


@pytest.mark.filterwarnings("ignore:step 31 is beyond")
@pytest.mark.parametrize("make", [decayed, halved])
def test_beyond_its_end_a_run_keeps_its_weights_and_a_new_schedule_takes_over(make):
    old = Steered(make=make).run()
    end, state = [p.clone() for p in old.net.parameters()], old.state
    old.run()
    assert all(map(torch.equal, end, old.net.parameters())) and old.state is state
    new = Steered(net=old.net, make=lambda params: old.optimizer).run()
    assert new.moved[0] == pytest.approx(FIRST, rel=1e-6)
    first, *others = (group["lr"] for group in new.optimizer.param_groups)
    assert first > 0 and others == ([first / 2] if make is halved else [])
    assert old.state is state  # the old schedule is still there, and reads nothing


@pytest.mark.filterwarnings("ignore:step 31 is beyond")
@pytest.mark.parametrize("beyond", [0, 1, 200])
def test_a_longer_schedule_goes_on_from_the_state_at_the_end(beyond):
    run = Steered().run()
    run.steps = beyond
    scheduler = run.run().scheduler
    total = beyond + 2 * STEPS
    run.scheduler = ControlledLR(run.optimizer, scheduler.controller, total_steps=total)
    run.scheduler.load_state_dict(scheduler.state_dict())
    del scheduler
    run.steps = STEPS
    run.run()
    assert run.rates[STEPS + beyond] > 2 * run.rates[STEPS - 1]
    assert run.state.num_alarms == 0


def test_numbers_of_an_accelerator_give_the_same_learning_rates_and_are_read_a_step_later(
    monkeypatch, tmp_path
):
    """A stand-in: the numbers stay in a tensor, as they do on an accelerator."""
    log = []
    plain = Steered().run().rates
    monkeypatch.setattr(host, "is_near", lambda numbers: False)
    monkeypatch.setattr(host, "send", lambda numbers: log.append("send") or numbers)
    receive = host.receive
    monkeypatch.setattr(host, "receive", lambda numbers: log.append("receive") or receive(numbers))

    def resume(run):
        if run.step == 7:
            torch.save(run.scheduler.state_dict(), tmp_path / "state")
            saved = torch.load(tmp_path / "state", weights_only=True)
            run.scheduler.load_state_dict(saved)

    assert Steered().run(resume).rates == plain
    assert log == ["send", *["receive", "send"] * (STEPS - 1)]


def test_a_decision_reads_nothing_else_of_an_accelerator(monkeypatch):
    read = torch.Tensor.tolist
    monkeypatch.setattr(host, "is_near", lambda numbers: False)
    monkeypatch.setattr(host, "send", lambda numbers: numbers)
    monkeypatch.setattr(host, "receive", read)

    def never(tensor):
        raise AssertionError("the device was waited for")

    run = Steered()
    while run.step < 6:
        run.optimizer.zero_grad()
        loss = torch.ones((), dtype=torch.float64)  # observing a loss of the CPU would read it
        for p in run.net.parameters():
            p.grad = torch.ones_like(p)
        run.scheduler._num_observed, run.scheduler._pending = 1, [loss]
        if run.step == 2:
            for name in ("item", "tolist", "__bool__", "__float__"):
                monkeypatch.setattr(torch.Tensor, name, never)
        run.optimizer.step()
        run.step += 1
    monkeypatch.undo()
    assert run.scheduler.last_epoch == 6


class Unread(torch.Tensor):
    """A loss that nobody may wait for."""

    def item(self):
        raise AssertionError("the loss was waited for")


def test_a_loss_on_an_accelerator_is_not_waited_for():
    losses = [torch.tensor(value).as_subclass(Unread) for value in (1.0, math.nan, 3.0)]
    assert summarise(losses[:1], list, late=True).mean is losses[0]
    assert torch.equal(summarise(losses, list, late=True).mean, torch.tensor(2.0))
    assert summarise(losses[1:2] * 2, list, late=True).mean.isnan()
    with pytest.raises(AssertionError, match="waited"):
        summarise(losses[:1], list)
