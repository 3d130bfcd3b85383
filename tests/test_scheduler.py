"""`ControlledLR` in people's own loops: which rate does each step take?"""

import copy
import gc
import io
import math
import warnings
import weakref

import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, ExponentialLR, LinearLR, SequentialLR

from meta_lr import rules
from meta_lr.protocol import Average, Need, UndeclaredError
from meta_lr.training.scheduler import ControlledLR
from tests.controllers import Momentum, Restart, Says, Stepped, Tenth, Witness

NAN, INF = math.nan, math.inf


def build(controller=None, *, lr=0.5, kind=torch.optim.SGD, num_groups=1, **options):
    """One weight per group, at 1, with gradient 1."""
    params = [torch.nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(num_groups)]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer = kind([{"params": [p]} for p in params], lr=lr)
    return ControlledLR(optimizer, controller or Tenth(), **options), optimizer


def rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def drive(scheduler, losses):
    """Take one step per entry (a loss, or a list of losses to accumulate); return the rates."""
    taken = []
    for entry in losses:
        for loss in entry if isinstance(entry, list) else [entry]:
            scheduler.observe(torch.tensor(loss, dtype=torch.float64))
        scheduler.optimizer.step()
        taken.append(rates(scheduler.optimizer)[0])
    return taken


# The rate of this step, from this step's loss


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
        ([[], 1.0, [], 2.0], [0.5, 0.1, 0.1, 0.2], 0),  # nothing observed: the group's own
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


def test_a_loss_stays_a_tensor_until_the_step_and_is_read_once(monkeypatch):
    reads = []
    for name in ("item", "tolist", "__float__", "__bool__"):
        original = getattr(torch.Tensor, name)

        def read(tensor, name=name, original=original):
            reads.append(name)
            return original(tensor)

        monkeypatch.setattr(torch.Tensor, name, read, raising=False)
    scheduler, optimizer = build(Says(0.1, Need.LOSS))
    scheduler.observe(torch.tensor(1.0))
    assert reads == []
    optimizer.step()
    assert reads == ["item"]


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
        (Need.HORIZON, r"Says needs HORIZON; pass total_steps="),
        (Need.EPOCHS, r"Says needs EPOCHS; pass steps_per_epoch="),
        (Need.META | Need.TRIALS, r"Says needs META, TRIALS; pass sandbox=Sandbox"),
    ],
)
def test_needs_that_cannot_be_served_fail_at_construction(needs, message):
    with pytest.raises(ValueError, match=message):
        build(Says(0.1, needs))


def test_the_sandbox_is_told_the_step_before_each_question():
    class Log:
        def __init__(self):
            self.steps = []

        def at(self, step):
            self.steps.append(step)

    class Asks(Says):
        def __call__(self, view, state):
            return 0.1 * len(view.sandbox.steps), state

    log = Log()
    scheduler, _ = build(Asks(None, Need.META), sandbox=log)
    assert drive(scheduler, [1.0, 1.0, 1.0]) == pytest.approx([0.1, 0.2, 0.3])
    assert log.steps == [0, 1, 2]


def test_a_rate_learned_with_another_optimizer_is_refused():
    build(Says(0.1, family="adam"), kind=torch.optim.Adam)
    with pytest.raises(ValueError, match=r"learned with sgd.*pass peak=.*to load_pretrained"):
        build(Says(0.1, family="sgd"), kind=torch.optim.Adam)


@pytest.mark.parametrize("rate", [-0.1, NAN, INF, torch.tensor(-1.0)])
def test_an_impossible_rate_names_controller_step_and_value_and_changes_nothing(rate):
    scheduler, optimizer = build(Says(0.1))
    optimizer.step()
    scheduler.controller = Says(rate)
    before = optimizer.param_groups[0]["params"][0].item()
    with pytest.raises(ValueError, match=rf"Says returned the rate {float(rate)} at step 1"):
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


# Parameter groups


def grouped(*groups, lr=0.5, controller=None):
    params = [{"params": [torch.nn.Parameter(torch.ones(1))], **group} for group in groups]
    optimizer = torch.optim.SGD(params, lr=lr)
    return ControlledLR(optimizer, controller or Tenth()), optimizer


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
    for loss in ([], 1.0, 2.0, NAN, 3.0):
        taken += drive(scheduler, [loss])
        chain.step()
    assert taken == pytest.approx([0.8, 0.1, 0.2, 0.2, 0.3])


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


def test_an_int_is_torchs_deprecated_epoch():
    scheduler, optimizer = build()
    drive(scheduler, [1.0])
    with pytest.warns(UserWarning, match="epoch parameter"):
        scheduler.step(0)
    assert scheduler.last_epoch == 0
    assert rates(optimizer) == pytest.approx([0.1])


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
