"""LRBench's 34 policies: equal to their slow twin, to the published numbers, to torch's own."""

import math
import random

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as theirs

from meta_lr.cli.conf_files import choices
from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.basic import Constant, Cosine
from meta_lr.methods.policies.examples import EXAMPLES
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.shapes import SHAPES
from meta_lr.methods.wrappers import Composite, Warmup
from meta_lr.protocol import Need, StepView
from meta_lr.records.reader import read_record
from tests.commands import outcome, own_place, runs
from tests.reference import compose as slow_compose
from tests.reference import formula as slow
from tests.steering import in_torchs_order

LIMITS = {"k0": (0.0, 1.0), "k1": (0.0, 1.0), "gamma": (0.95, 1.0), "p": (0.3, 2.5)}


def drawn(kind, seed):
    """Return random numbers for a policy of this kind."""
    draw = random.Random(f"{kind} {seed}")
    numbers = {name: draw.uniform(*LIMITS[name]) for name in SHAPES[kind].takes if name != "l"}
    if kind == "nstep":
        numbers["l"] = sorted(draw.sample(range(1, 900), 4))
    elif "l" in SHAPES[kind].takes:
        numbers["l"] = draw.choice([1, 2, 7, 50, 300, 2.5])
    if kind == "sig":
        numbers["gamma"] = draw.uniform(-0.3, 0.3)
    return numbers


def run(controller, num_steps, total_steps=0, steps_per_epoch=0):
    state, rates = controller.init(), []
    for step in range(num_steps):
        known = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        rate, state = controller(StepView(controller, step, **known), state)
        rates.append(rate)
    return rates


# The numbers


def test_there_are_34_and_each_has_its_twin_and_its_example():
    assert len(SHAPES) == 34
    assert sorted(SHAPES) == sorted(name.lower() for name in slow.NAMES)
    assert sorted(EXAMPLES) == sorted(SHAPES) and set(SHAPES) <= set(choices("lr"))
    for kind, shape in SHAPES.items():
        assert set(shape.takes) == set(EXAMPLES[kind].options) - {"per", "period"}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_policy_equals_its_slow_twin(kind):
    for seed in range(5):
        numbers = drawn(kind, seed)
        expected = slow.rates(kind.upper(), 1000, **numbers)
        found = run(Policy(kind, numbers.pop("k0"), **numbers), 1000)
        assert found == pytest.approx(expected, rel=0, abs=1e-12), numbers


# k0 = 0.1, k1 = 1, l = 100, at these steps
STEPS = (0, 50, 99, 100, 150, 200, 300)
PUBLISHED = {
    "tri": (0.1, 0.55, 0.991, 1.0, 0.55, 0.1, 1.0),
    "tri2": (0.1, 0.55, 0.991, 1.0, 0.55, 0.1, 0.55),
    "sin": (0.1, 0.7364, 0.9999, 1.0, 0.7364, 0.1, 1.0),
    "dtri": (1.0, 0.55, 0.109, 0.1, 0.55, 1.0, 0.1),
    "dtri2": (1.0, 0.55, 0.109, 0.1, 0.325, 0.55, 0.1),
    "cos": (1.0, 0.55, 0.1002, 0.1, 0.55, 1.0, 0.1),
    "cos2": (1.0, 0.55, 0.1002, 0.1, 0.325, 0.55, 0.1),
    "upcos": (0.1, 0.55, 0.9998, 1.0, 0.55, 0.1, 1.0),
    "rsw": (0.1, 0.55, 0.109, 0.1, 0.55, 0.1, 0.1),
    "sinrsw": (0.1, 0.7364, 0.1141, 0.1, 0.7364, 0.1, 0.1),
    "cosrsw": (0.1, 0.55, 0.1002, 0.1, 0.55, 0.1, 0.1),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_policy_gives_the_published_numbers(kind):
    policy = Policy(kind, 0.1, k1=1.0, l=100)
    assert tuple(round(policy.at(t), 4) for t in STEPS) == PUBLISHED[kind]


def test_any_step_may_be_asked_for_first_and_policies_share_nothing():
    first = Policy("nstep", 1.0, gamma=0.1, l=[10, 20])
    other = Policy("nstep", 1.0, gamma=0.5, l=[2])
    assert [first.at(t) for t in (25, 0, 19, 20)] == pytest.approx([0.01, 1.0, 0.1, 0.01])
    assert (other.at(25), first.at(5)) == (0.5, 1.0)


@pytest.mark.parametrize("p", [0.5, 1.0, 1.2, 2.0])
def test_poly_is_real_and_stays_at_its_end(p):
    policy = Policy("poly", 0.01, k1=0.1, l=10, p=p)
    assert [policy.at(t) for t in (10, 11, 25)] == [0.01] * 3
    assert policy.at(0) == 0.1


def test_the_papers_cosine_has_half_the_period():
    paper = run(Policy("cos", 0.1, k1=1.0, l=100, period="l"), 400)
    assert paper == pytest.approx(
        [0.1 + 0.45 * (1 + math.cos(2 * math.pi * t / 100)) for t in range(400)]
    )
    assert paper == run(Policy("cos", 0.1, k1=1.0, l=50), 400)


def test_ends_the_other_way_round_turn_the_shape_over():
    for kind in ("tri", "sin", "cos", "rsw", "dsin", "upcos", "cosrsw"):
        up = run(Policy(kind, 0.1, k1=1.0, l=7), 50)
        over = run(Policy(kind, 1.0, k1=0.1, l=7), 50)
        assert over == pytest.approx([1.1 - rate for rate in up])


def test_a_rate_that_outgrows_all_numbers_is_refused_and_one_that_vanishes_is_zero():
    grows = ControlledLR(sgd(), Policy("exp", 1.0, gamma=10.0))
    with pytest.raises(ValueError, match=r"rate 1e\+31 at step 31; at most 1e\+30 is possible"):
        in_torchs_order(grows, 40)
    assert Policy("exp", 0.1, gamma=2.0).at(10**6) == math.inf
    assert Policy("triexp", 0.1, k1=1.0, l=10, gamma=0.1).at(10**6 + 5) == 0.1
    assert Policy("sig", 0.1, l=10, gamma=-1.0).at(10**6) == 0.0
    assert Policy("sig", 0.1, l=10, gamma=1.0).at(10**6) == 0.1
    assert Policy("tri2", 0.1, k1=1.0, l=1).at(10**5 + 1) == 0.1


# torch's own schedulers


def sgd(lr=0.1):
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)


def cyclic(mode, gamma=1.0):
    ends = {"base_lr": 0.02, "max_lr": 0.3, "step_size_up": 12, "cycle_momentum": False}
    return lambda o: theirs.CyclicLR(o, mode=mode, gamma=gamma, **ends)


def one_cycle(anneal):
    ends = {"max_lr": 0.3, "div_factor": 3.0, "final_div_factor": 5.0, "cycle_momentum": False}
    return lambda o: theirs.OneCycleLR(
        o, total_steps=101, pct_start=31 / 101, anneal_strategy=anneal, **ends
    )


def phases(*kinds):
    """The phases of `one_cycle`: up in 30 steps from a third, down in 70 to a fifth of that."""
    up, down = kinds
    return Composite([30], [Policy(up, 0.1, k1=0.3, l=30), Policy(down, 0.02, k1=0.3, l=70)])


TORCHS = {
    "constant": (Policy("fix", 0.3), lambda o: theirs.ConstantLR(o, factor=1.0)),
    "step": (Policy("step", 0.3, l=7, gamma=0.6), lambda o: theirs.StepLR(o, 7, 0.6)),
    "multi-step": (
        Policy("nstep", 0.3, l=[5, 6, 40], gamma=0.6),
        lambda o: theirs.MultiStepLR(o, [5, 6, 40], 0.6),
    ),
    "exponential": (Policy("exp", 0.3, gamma=0.97), lambda o: theirs.ExponentialLR(o, 0.97)),
    "cosine": (
        Policy("cos", 0.05, k1=0.3, l=101),
        lambda o: theirs.CosineAnnealingLR(o, 101, eta_min=0.05),
    ),
    "linear": (Policy("poly", 0.0, k1=0.3, l=60, p=1), lambda o: theirs.PolynomialLR(o, 60)),
    "polynomial": (
        Policy("poly", 0.0, k1=0.3, l=60, p=1.7),
        lambda o: theirs.PolynomialLR(o, 60, power=1.7),
    ),
    "triangular": (Policy("tri", 0.02, k1=0.3, l=12), cyclic("triangular")),
    "triangular2": (Policy("tri2", 0.02, k1=0.3, l=12), cyclic("triangular2")),
    "exp_range": (
        Policy("triexp", 0.02, k1=0.3, l=12, gamma=0.98),
        cyclic("exp_range", 0.98),
    ),
    "one cycle, cosine": (phases("upcos", "cos"), one_cycle("cos")),
    "one cycle, linear": (phases("tri", "dtri"), one_cycle("linear")),
}


@pytest.mark.parametrize("name", TORCHS)
def test_a_policy_equals_torchs_scheduler_in_torchs_call_order(name):
    policy, make = TORCHS[name]
    expected = in_torchs_order(make(sgd(lr=0.3)), 100)
    ours = in_torchs_order(ControlledLR(sgd(), policy), 100)
    assert ours == pytest.approx(expected, rel=0, abs=1e-12)


def test_the_saw_tooth_along_a_cosine_is_torchs_restarts_but_for_the_first_step_of_each():
    torchs = in_torchs_order(theirs.CosineAnnealingWarmRestarts(sgd(lr=0.3), 12, eta_min=0.02), 100)
    ours = run(Policy("cosrsw", 0.02, k1=0.3, l=12), 100)
    assert [torchs[t] for t in range(0, 100, 12)] == pytest.approx([0.3] * 9)
    assert [ours[t] for t in range(0, 100, 12)] == [0.02] * 9
    assert [r for t, r in enumerate(ours) if t % 12] == pytest.approx(
        [r for t, r in enumerate(torchs) if t % 12], rel=0, abs=1e-12
    )


# Per epoch, with warm-up, one after the other


def test_a_policy_may_count_epochs_and_then_says_so():
    policy = Policy("triexp", 0.1, k1=1.0, l=3, gamma=0.9, per="epoch")
    rates = slow.rates("TRIEXP", 9, k0=0.1, k1=1.0, l=3, gamma=0.9)
    expected = [rate for rate in rates for _ in range(4)]
    assert run(policy, 36, steps_per_epoch=4) == pytest.approx(expected, rel=1e-12)
    assert policy.needs == Need.EPOCHS
    assert Policy("fix", 0.1).needs == Need.NOTHING
    with pytest.raises(
        ValueError, match="Policy needs the length of an epoch: pass steps_per_epoch="
    ):
        ControlledLR(sgd(), policy)
    scheduler = ControlledLR(sgd(), policy, steps_per_epoch=4)
    assert in_torchs_order(scheduler, 36) == pytest.approx(expected, rel=1e-12)


def test_a_policy_can_be_warmed_up():
    policy = Policy("cos", 0.0, k1=0.4, l=20)
    expected = slow_compose.warmup(slow.rates("COS", 30, k0=0.0, k1=0.4, l=20), 6)
    assert run(Warmup(policy, 6), 30) == pytest.approx(expected, rel=1e-12, abs=1e-16)


def test_the_parts_of_a_composite_begin_at_0_whichever_step_is_asked_for_first():
    parts = [Policy("sinexp", 1.0, k1=3.0, l=5, gamma=0.94), Policy("tri", 0.1, k1=0.2, l=4)]
    last = Policy("fix", 0.01)
    composite = Composite([10, 20], [*parts, last])
    runs = [
        slow.rates("SINEXP", 10, k0=1.0, k1=3.0, l=5, gamma=0.94),
        slow.rates("TRI", 10, k0=0.1, k1=0.2, l=4),
        [0.01] * 10,
    ]
    assert run(composite, 30) == pytest.approx(slow_compose.composite([10, 20], runs), rel=1e-12)
    for step, expected in ((25, 0.01), (0, 1.0), (14, 0.2)):
        assert composite(StepView(composite, step), composite.init())[0] == pytest.approx(expected)


def test_a_composite_may_count_epochs():
    parts = [Policy("tri", 0.1, k1=0.2, l=2, per="epoch"), Policy("tri", 0.0, k1=0.8, l=4)]
    composite = Composite([3], parts, per="epoch")
    expected = [0.1] * 5 + [0.15] * 5 + [0.2] * 5 + slow.rates("TRI", 10, k0=0.0, k1=0.8, l=4)
    assert run(composite, 25, steps_per_epoch=5) == pytest.approx(expected, rel=1e-12)
    assert composite.needs == Need.EPOCHS
    assert Composite([3], [Constant(0.1)] * 2, per="epoch").needs == Need.EPOCHS


def test_the_run_of_a_part_is_as_long_as_its_epochs():
    composite = Composite([2], [Cosine(0.3), Constant(0.1)], per="epoch")
    assert composite.needs == Need.EPOCHS
    assert run(composite, 9, steps_per_epoch=4) == [*run(Cosine(0.3), 8, total_steps=8), 0.1]


# Wrong numbers

ENDS = {"k0": 0.1, "k1": 1.0}
WRONG = [
    (("trixp", {"k0": 0.1}), "unknown policy 'trixp'; choose one of: fix, step, nstep, exp"),
    (
        ("tri", {"k0": 0.1, "l": 5}),
        r"tri needs k1=..., a finite learning rate >= 0; it takes k0, k1, l$",
    ),
    (
        ("triexp", {**ENDS, "l": 5}),
        "triexp needs gamma=..., a finite number > 0; it takes k0, k1, l, gamma",
    ),
    (("tri", {**ENDS, "l": 5, "gamma": 0.9}), "tri got gamma=0.9; it takes k0, k1, l$"),
    (("fix", ENDS), "fix got k1=1.0; it takes k0$"),
    (("fix", {"k0": -0.1}), "fix got k0=-0.1; it needs a finite learning rate >= 0"),
    (("fix", {"k0": math.nan}), "fix got k0=nan"),
    (("fix", {"k0": None}), "fix needs k0="),
    (("fix", {"k0": "0.1"}), "fix got k0=0.1; it needs a finite learning rate"),
    (("fix", {"k0": True}), "fix got k0=True; it needs a finite learning rate"),
    (("tri", {"k0": 0.1, "k1": math.inf, "l": 5}), "tri got k1=inf"),
    (("tri", {**ENDS, "l": 0}), "tri got l=0; it needs a finite number > 0"),
    (("tri", {**ENDS, "l": [5, 6]}), r"tri got l=\(5, 6\); it needs a finite number > 0"),
    (("exp", {"k0": 0.1, "gamma": 0.0}), "exp got gamma=0.0; it needs a finite number > 0"),
    (("inv", {"k0": 0.1, "gamma": 0.1, "p": -1}), "inv got p=-1; it needs a finite number > 0"),
    (
        ("sig", {"k0": 0.1, "gamma": math.inf, "l": 5}),
        "sig got gamma=inf; it needs a finite number$",
    ),
    (
        ("nstep", {"k0": 0.1, "gamma": 0.1, "l": 5}),
        "nstep got l=5; it needs a list of rising numbers",
    ),
    (("nstep", {"k0": 0.1, "gamma": 0.1, "l": []}), r"nstep got l=\(\); it needs a list"),
    (("nstep", {"k0": 0.1, "gamma": 0.1, "l": [5, 5]}), r"nstep got l=\(5, 5\); it needs a list"),
    (("nstep", {"k0": 0.1, "gamma": 0.1, "l": ["5"]}), r"nstep got l=\('5',\); it needs a list"),
    (("fix", {"k0": 0.1, "per": "batch"}), "fix got per=batch; it needs step or epoch"),
    (
        ("cos", {**ENDS, "l": 5, "period": "3l"}),
        "cos got period=3l; it needs 2l; cos may have l too",
    ),
    (("upcos", {**ENDS, "l": 5, "period": "l"}), "upcos got period=l; it needs 2l"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_numbers_are_refused_at_construction(given, message):
    kind, numbers = given
    with pytest.raises(ValueError, match=f"^{message}"):
        Policy(kind, **numbers)


def test_a_composite_counts_whole_steps_or_epochs():
    with pytest.raises(ValueError, match="Composite got per=batch; it needs step or epoch"):
        Composite([3], [Constant(0.1)] * 2, per="batch")
    with pytest.raises(ValueError, match=r"needs whole numbers of epochs, such as \[30, 60\]"):
        Composite([3.5], [Constant(0.1)] * 2, per="epoch")


def test_numbers_of_any_kind_become_plain_ones():
    given = Policy("tri", np.float32(0.5), k1=np.float64(1.0), l=np.int64(5))
    assert repr(given) == repr(Policy("tri", 0.5, k1=1.0, l=5))
    listed, tupled = (Policy("nstep", 1, l=ends, gamma=0.5) for ends in ([2, 3], (2, 3)))
    assert listed == tupled and hash(listed) == hash(tupled)
    assert hash(listed) != hash(Policy("nstep", 1, l=(2, 4), gamma=0.5))


# The command line

OPTIONS = {"k0": 0.02, "k1": 0.2, "l": 5, "gamma": 0.9, "p": 1.2}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_policy_steers_a_run_from_the_command_line(kind, capsys, tmp_path, monkeypatch):
    place = own_place(tmp_path, monkeypatch)
    numbers = {name: OPTIONS[name] for name in SHAPES[kind].takes}
    if kind == "nstep":
        numbers["l"] = [5, 8]
    options = [f"lr.{name}={value}".replace(" ", "") for name, value in numbers.items()]
    small = ["task=quadratic", "total_steps=20"]
    code, _, err = outcome(capsys, "train", f"lr={kind}", *options, *small)
    assert code == 0, err
    rates = [row["lr"] for row in read_record(runs(place)[0]).steps]
    assert rates == pytest.approx(slow.rates(kind.upper(), 20, **numbers), rel=1e-12)


def test_a_run_may_count_epochs_and_be_warmed_up(capsys, tmp_path, monkeypatch):
    place = own_place(tmp_path, monkeypatch)
    chosen = ["lr=warmup", "lr.steps=4", "lr@lr.inner=step", "lr.inner.per=epoch", "lr.inner.l=1"]
    chosen += ["lr.inner.k0=0.1", "lr.inner.gamma=0.5"]
    small = ["task=quadratic", "task.steps_per_epoch=10", "epochs=2"]
    code, _, err = outcome(capsys, "train", *chosen, *small)
    assert code == 0, err
    rates = [row["lr"] for row in read_record(runs(place)[0]).steps]
    assert rates == pytest.approx([0.025, 0.05, 0.075, *[0.1] * 7, *[0.05] * 10])
