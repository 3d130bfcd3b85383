"""The hand-made schedules: equal to torch's and to plain loops; and ControlledLR with a policy
does what PyTorch asks of its own schedulers."""

import copy
import gc
import io
import math
import types
import warnings
import weakref

import pytest
import torch
from torch.optim import lr_scheduler as theirs

from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.basic import Constant, Cosine, MultiStep, OneCycle
from meta_lr.methods.wrappers import Composite, Warmup
from meta_lr.protocol import Average, Need, StepView, UndeclaredError
from tests.controllers import Momentum, Says, Stepped, Tenth
from tests.reference import compose as slow_compose
from tests.reference import policies as slow
from tests.steering import in_torchs_order

T = 40


def run(controller, num_steps, total_steps=T):
    """Return the rates by the protocol alone."""
    state, rates = controller.init(), []
    for step in range(num_steps):
        rate, state = controller(StepView(controller, step, total_steps=total_steps), state)
        rates.append(rate)
    return rates


def sgd(num_groups=1, lr=0.1):
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in range(num_groups)]
    return torch.optim.SGD(groups, lr=lr)


# The numbers

TWINS = [
    (Constant(0.3), lambda n, t: slow.constant(n, 0.3)),
    (Cosine(0.3), lambda n, t: slow.cosine(n, t, 0.3)),
    (Cosine(0.3, floor=0.05), lambda n, t: slow.cosine(n, t, 0.3, 0.05)),
    (MultiStep(0.3), lambda n, t: slow.multi_step(n, t, 0.3)),
    (
        MultiStep(0.3, fractions=[0.9, 0.07, 1.0], factor=0.5),
        lambda n, t: slow.multi_step(n, t, 0.3, (0.9, 0.07, 1.0), 0.5),
    ),
    (OneCycle(0.3), lambda n, t: slow.one_cycle(n, t, 0.3)),
    (OneCycle(0.3, 0.6, 5.0, 2.0), lambda n, t: slow.one_cycle(n, t, 0.3, 0.6, 5.0, 2.0)),
    (OneCycle(0.3, pct_start=0.0), lambda n, t: slow.one_cycle(n, t, 0.3, 0.0)),
    (OneCycle(0.3, pct_start=1.0), lambda n, t: slow.one_cycle(n, t, 0.3, 1.0)),
]


@pytest.mark.parametrize("total_steps", [1, 2, 10, 40, 101])
@pytest.mark.parametrize(("policy", "twin"), TWINS, ids=range(len(TWINS)))
def test_a_policy_equals_its_slow_twin_past_the_end_of_the_run_too(policy, twin, total_steps):
    rates = run(policy, total_steps + 20, total_steps)
    assert rates == pytest.approx(twin(total_steps + 20, total_steps), rel=1e-12, abs=1e-15)


TORCHS = [
    (Constant(0.3), lambda o, t: theirs.ConstantLR(o, factor=1.0)),
    (Cosine(0.3, floor=0.05), lambda o, t: theirs.CosineAnnealingLR(o, t, eta_min=0.05)),
    (
        MultiStep(0.3, (0.25, 0.6), 0.2),
        lambda o, t: theirs.MultiStepLR(o, [round(0.25 * t), round(0.6 * t)], 0.2),
    ),
    (OneCycle(0.3), lambda o, t: theirs.OneCycleLR(o, 0.3, t, cycle_momentum=False)),
    (
        OneCycle(0.3, 0.45, 7.0, 30.0),
        lambda o, t: theirs.OneCycleLR(
            o,
            0.3,
            t,
            pct_start=0.45,
            div_factor=7.0,
            final_div_factor=30.0,
            cycle_momentum=False,
        ),
    ),
]


@pytest.mark.parametrize("total_steps", [4, 37, 100])
@pytest.mark.parametrize(("policy", "make"), TORCHS, ids=range(len(TORCHS)))
def test_a_policy_equals_torchs_scheduler_in_torchs_call_order(policy, make, total_steps):
    torchs = make(sgd(lr=0.3), total_steps)
    ours = ControlledLR(sgd(lr=0.3), policy, total_steps=total_steps)
    expected = in_torchs_order(torchs, total_steps)
    assert in_torchs_order(ours, total_steps) == pytest.approx(expected, rel=0, abs=1e-12)


def test_the_points_that_everybody_knows():
    assert run(Cosine(0.2), 41)[::10] == pytest.approx(
        [0.2, 0.1 + 0.1 / math.sqrt(2), 0.1, 0.1 - 0.1 / math.sqrt(2), 0.0]
    )
    assert [run(MultiStep(0.2), 40)[t] for t in (19, 20, 29, 30)] == pytest.approx(
        [0.2, 0.02, 0.02, 0.002]
    )
    cycle = run(OneCycle(0.5), 40)
    assert (cycle[0], max(cycle), cycle[-1]) == pytest.approx((0.02, 0.5, 2e-6))
    assert cycle.index(max(cycle)) == 0.3 * T - 1


PAIR = [Constant(0.1), Constant(0.2)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-0.1), r"Constant\(peak=-0.1\) is out of range; it needs a finite peak"),
        (lambda: Constant(math.nan), "finite peak"),
        (lambda: Cosine(0.1, 0.2), "0 <= floor <= peak"),
        (lambda: Cosine(math.inf), "both finite"),
        (lambda: MultiStep(0.1, (1.5,)), r"fractions in \[0, 1\]"),
        (lambda: MultiStep(0.1, factor=0.0), "finite factor > 0"),
        (lambda: OneCycle(0.1, pct_start=1.5), r"pct_start in \[0, 1\]"),
        (lambda: OneCycle(0.1, div_factor=0.0), "divisors > 0"),
        (lambda: Warmup(Constant(0.1), -1), "steps=-1"),
        (lambda: Composite([], [Constant(0.1)] * 2), "2 parts and 0 boundaries"),
        (lambda: Composite([3, 3], [Constant(0.1)] * 3), "increasing boundaries > 0"),
        (
            lambda: Composite([0.5], PAIR),
            r"boundaries=\[0.5\]; it needs whole numbers of optimizer",
        ),
        (lambda: Composite([3.0], PAIR), r"such as \[round\(0.5 \* total_steps\)\] for half"),
        (lambda: Composite(["3"], PAIR), r"boundaries=\['3'\]; it needs whole"),
        (lambda: Composite(3, PAIR), "boundaries=3; it needs whole"),
        (lambda: Warmup(Constant(0.1), 0.1), "steps=0.1; it needs a whole number of optimizer"),
    ],
)
def test_bad_arguments_fail_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_name_is_no_controller_to_warm_up():
    with pytest.raises(TypeError, match=r"inner='cosine'; it needs a controller, .* lr@lr.inner="):
        Warmup("cosine", 5)


@pytest.mark.parametrize("policy", [Cosine(0.1), MultiStep(0.1), OneCycle(0.1)])
def test_the_length_of_the_run_must_be_known(policy):
    with pytest.raises(ValueError, match="needs the length of the run: pass total_steps="):
        ControlledLR(sgd(), policy)


# Warm-up and composition


@pytest.mark.parametrize("steps", [0, 1, 7, 60])
def test_a_warm_up_equals_its_slow_twin(steps):
    expected = slow_compose.warmup(slow.cosine(50, T, 0.3), steps)
    assert run(Warmup(Cosine(0.3), steps), 50) == pytest.approx(expected, rel=1e-12)


def test_a_warm_up_keeps_the_needs_the_state_and_the_family_of_what_it_wraps():
    inner = Says(0.4, Need.LOSS | Need.GRADS, family="adam")
    assert Warmup(inner, 5).needs == Need.LOSS | Need.GRADS
    assert Warmup(inner, 5).family == "adam"
    assert Warmup(Constant(0.1), 5).family == ""
    assert Warmup(Momentum(), 5).init() == Momentum().init()
    with pytest.raises(ValueError, match="learned with adam, and the optimizer is sgd"):
        ControlledLR(sgd(), Warmup(inner, 5))


def test_a_warm_up_scales_tensors_and_the_rate_of_an_average():
    average = Average(0.4, 0.5, ())
    warmup = Warmup(Says(average, Need.NOTHING), 4)
    assert warmup(StepView(warmup, 1), ())[0] == average._replace(rate=0.2)
    warmup = Warmup(Says(torch.tensor(0.4, requires_grad=True), Need.NOTHING), 4)
    assert warmup(StepView(warmup, 1), ())[0].requires_grad


def test_a_composite_gives_each_part_its_own_run():
    parts = [Constant(0.2), Cosine(0.3), OneCycle(0.1)]
    composite = Composite([5, 20], parts)
    expected = slow_compose.composite(
        [5, 20],
        [slow.constant(5, 0.2), slow.cosine(15, 15, 0.3), slow.one_cycle(30, T - 20, 0.1)],
    )
    assert run(composite, 50) == pytest.approx(expected, rel=1e-12)


def test_boundaries_may_be_any_whole_numbers_and_are_kept_as_plain_ones():
    composite = Composite(torch.tensor([5, 20]), [*PAIR, Constant(0.3)])
    assert repr(composite) == repr(Composite((5, 20), (*PAIR, Constant(0.3))))


def test_a_composite_knows_its_own_horizon_unless_the_last_part_asks():
    assert Composite([5], [Cosine(0.3), Constant(0.1)]).needs == Need.NOTHING
    assert Composite([5], [Constant(0.1), Cosine(0.3)]).needs == Need.HORIZON
    assert Composite([5], [Momentum(), Says(0.1, Need.GRADS)]).needs == Need.LOSS | Need.GRADS
    known = run(Composite([5], [Cosine(0.3), Constant(0.1)]), 8, total_steps=0)
    assert known == pytest.approx([*slow.cosine(5, 5, 0.3), 0.1, 0.1, 0.1])


def test_the_parts_of_a_composite_may_keep_a_state_and_one_family():
    composite = Composite([2, 4], [Momentum(), Tenth(), Momentum()])
    scheduler = ControlledLR(sgd(), composite)
    rates = []
    for loss in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
        scheduler.observe(loss)
        scheduler.optimizer.step()
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.005, 0.0125, 0.3, 0.4, 0.025, 0.0425])
    assert scheduler.state_dict()["state"] == {"part": 2, "values": (4.25,)}
    one = Composite([2], [Says(0.1, family="adam"), Constant(0.1)])
    assert one.family == "adam"
    with pytest.raises(ValueError, match="learned with adam and sgd"):
        Composite([2], [Says(0.1, family="adam"), Says(0.1, family="sgd")])


def test_a_policy_reads_nothing_but_the_horizon():
    constant = Constant(0.1)
    view = StepView(constant, 0, total_steps=9)
    with pytest.raises(UndeclaredError):
        view.total_steps  # noqa: B018
    with pytest.raises(AttributeError, match="a StepView has no totl_steps"):
        view.totl_steps  # noqa: B018


# What PyTorch asks of its own schedulers

POLICIES = [
    Constant(0.1),
    Cosine(0.1),
    MultiStep(0.1),
    OneCycle(0.1),
    Warmup(Cosine(0.1), 5),
    Composite([5], [Constant(0.1), Cosine(0.1)]),
    Stepped(),
]
policies = pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)


def scheduled(policy, optimizer=None, **options):
    return ControlledLR(optimizer or sgd(), policy, total_steps=T, **options)


@policies
@pytest.mark.parametrize("weights_only", [True, False])
def test_a_fresh_state_goes_through_a_file_and_back(policy, weights_only):
    state = scheduled(policy).state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=weights_only)
    assert loaded == state
    other = scheduled(policy)
    other.load_state_dict(loaded)
    assert other.state_dict() == state


@policies
def test_a_loaded_scheduler_is_in_the_same_state_in_every_attribute(policy):
    first, second = scheduled(policy), scheduled(policy)
    in_torchs_order(first, 10)
    second.load_state_dict(first.state_dict())
    theirs = {"optimizer", "_watched", "_groups"}  # `_num_idle` watches this process's optimizer
    for name in vars(first).keys() - theirs - {"_num_idle"}:
        assert vars(first)[name] == vars(second)[name], name
    assert second._groups.scales() == first._groups.scales()
    assert second.get_last_lr() == first.get_last_lr()
    assert in_torchs_order(second, 5) == in_torchs_order(first, 5)


@policies
def test_a_checkpoint_of_the_optimizer_alone_goes_on_from_last_epoch(policy):
    model = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = scheduled(policy, optimizer)
    optimizer.step()
    scheduler.step()
    other = torch.optim.AdamW(model.parameters())
    other.load_state_dict(optimizer.state_dict())
    resumed = scheduled(policy, other, last_epoch=0)
    assert resumed.last_epoch == 1
    assert resumed.get_last_lr() == [optimizer.param_groups[0]["lr"]]


@policies
def test_the_initial_rate_is_constant_and_shared_with_nobody(policy):
    lr = torch.tensor(0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)
    scheduler = scheduled(policy, optimizer)
    initial = copy.deepcopy(optimizer.param_groups[0]["initial_lr"])
    for _ in range(2):
        optimizer.step()
        scheduler.step()
        lr.mul_(0.1)
        group = optimizer.param_groups[0]
        assert group["lr"] is lr
        assert group["initial_lr"] == initial
        assert scheduler.base_lrs == [initial]
        assert scheduler.base_lrs[0] is not group["initial_lr"]
        assert scheduler.get_last_lr()[0] is not lr


@policies
def test_no_reference_cycles(policy):
    def steps():
        optimizer = sgd()
        scheduler = scheduled(policy, optimizer)
        optimizer.step()
        scheduler.step()
        return weakref.ref(scheduler), weakref.ref(optimizer)

    gc.collect()
    gc.disable()
    try:
        assert [ref() for ref in steps()] == [None, None]
        optimizer = sgd()
        scheduler = scheduled(policy, optimizer)
        del scheduler
        assert gc.get_referrers(optimizer) == []
    finally:
        gc.enable()


def old_order(scheduler):
    for _ in range(5):
        scheduler.step()
        scheduler.optimizer.step()


def test_the_old_order_warns_as_in_torch():
    scheduler = scheduled(Cosine(0.1))
    with pytest.warns(UserWarning, match="how-to-adjust-learning-rate"):
        old_order(scheduler)


def test_the_old_order_warns_when_resuming():
    optimizer = sgd()
    optimizer.param_groups[0]["initial_lr"] = 0.1
    scheduler = scheduled(Cosine(0.1), optimizer, last_epoch=10)
    with pytest.warns(UserWarning, match="how-to-adjust-learning-rate"):
        old_order(scheduler)


def test_an_overridden_step_warns_in_either_order():
    for order in (old_order, lambda scheduler: in_torchs_order(scheduler, 3)):
        optimizer = sgd()
        scheduler = scheduled(Cosine(0.1), optimizer)
        original = optimizer.step
        optimizer.step = types.MethodType(lambda self, original=original: original(), optimizer)
        with pytest.warns(UserWarning, match="has been overridden"):
            order(scheduler)


def test_the_new_order_does_not_warn():
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        rates = in_torchs_order(scheduled(Cosine(0.1)), 5)
    assert rates == run(Cosine(0.1), 5)
    assert warned == []


def test_an_epoch_may_be_given_as_in_torch():
    optimizer = sgd()
    scheduler = scheduled(Cosine(0.1), optimizer)
    for _ in range(3):
        optimizer.step()
        with pytest.warns(UserWarning, match="epoch parameter"):
            scheduler.step(20)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_get_last_lr_is_the_rate_of_the_coming_step():
    scheduler = scheduled(MultiStep(0.1, (0.05, 0.1)), sgd(num_groups=2))
    seen = []
    for _ in range(5):
        seen.append(scheduler.get_last_lr())
        scheduler.optimizer.step()
        scheduler.step()
    expected = [0.1, 0.1, 0.01, 0.01, 0.001]
    assert [rate for rates in seen for rate in rates] == pytest.approx(
        [rate for rate in expected for _ in range(2)]
    )


def test_asking_for_the_rates_outside_of_a_step_changes_nothing():
    scheduler = scheduled(Stepped())
    assert scheduler.get_lr() == scheduler.get_lr() == scheduler.get_last_lr() == [0.1]
    assert scheduler.state_dict()["state"] == {"asked": 1}


def test_the_former_name_of_the_fractions_warns_and_works():
    with pytest.warns(FutureWarning, match=r"MultiStep\(fractions=...\)") as caught:
        policy = MultiStep(0.1, milestones=(0.2,))
    assert policy == MultiStep(0.1, (0.2,)) and caught[0].filename == __file__
