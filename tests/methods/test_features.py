"""Features: equal to their twin, exact gradients, many at once, and what makes them useful."""

import io
import math
import pickle

import pytest
import torch

from meta_lr.bilevel.estimators import Adjoint, Unroll
from meta_lr.methods.features.features import FEATURES, Features
from meta_lr.methods.features.loss import LOSS_FEATURES, SCALES
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.protocol import Need, StepView, pack, unpack
from meta_lr.seeds import generator
from meta_lr.testing import check_controller
from tests.reference.features import feature
from tests.smooth import Waiting

ALL = tuple(LOSS_FEATURES)
CLOCK = ("progress", "remaining", "run_length", "opening")
HISTORY = tuple(name for name in ALL if FEATURES[name].remembers)
STEPS = 60


def curve(num=STEPS, seed=0):
    """A noisy loss that falls, with a spike."""
    noise = torch.randn(num, generator=generator(seed, "noise"), dtype=torch.float64)
    losses = [2.3 * 0.97**t * math.exp(0.1 * float(noise[t])) for t in range(num)]
    return [5.0 if t == num // 2 else loss for t, loss in enumerate(losses)]


def along(features, losses, total_steps=STEPS, state=None, start=0):
    """Return x after each loss, and the last state."""
    state, seen = features.init() if state is None else state, []
    for step, loss in enumerate(losses, start):
        loss = torch.as_tensor(loss, dtype=torch.float64)
        x, state = features(loss, state, step=step, total_steps=total_steps)
        seen.append(x)
    return torch.stack(seen), state


def quickly(features, losses, total_steps=STEPS):
    read, state = features.fold(), features.init()
    return [read(loss, step, total_steps, state) for step, loss in enumerate(losses)]


@pytest.mark.parametrize("name", ALL)
def test_a_feature_equals_its_twin_in_tensors_and_in_numbers(name):
    losses = curve()
    twin = [feature(name, losses[: t + 1], STEPS) for t in range(STEPS)]
    x, _ = along(Features((name,)), losses)
    assert x.shape == (STEPS, 1)
    assert x[:, 0].tolist() == pytest.approx(twin, rel=1e-11, abs=1e-11)
    assert quickly(Features((name,)), losses) == pytest.approx(twin, rel=1e-11, abs=1e-11)


def test_all_together_are_each_alone():
    x, _ = along(Features(ALL), curve())
    for column, name in enumerate(ALL):
        assert torch.equal(x[:, column], along(Features((name,)), curve())[0][:, 0])
    assert quickly(Features(ALL), curve()) == [pytest.approx(row, abs=1e-12) for row in x.tolist()]


@pytest.mark.parametrize("name", [name for name in ALL if name not in CLOCK])
def test_the_gradient_in_every_loss_before_agrees_with_differences_of_the_twin(name):
    losses = torch.tensor(curve(24), dtype=torch.float64, requires_grad=True)
    x, _ = along(Features((name,)), losses.unbind())
    for end in (1, 2, 9, 11, 24):
        (slopes,) = torch.autograd.grad(x[end - 1, 0], losses, retain_graph=True)
        for t in range(end):
            step, values = 1e-6, losses.tolist()[:end]
            ends = []
            for sign in (1, -1):
                moved = [v + sign * step * (i == t) for i, v in enumerate(values)]
                ends.append(feature(name, moved, STEPS))
            expected = (ends[0] - ends[1]) / (2 * step)
            assert float(slopes[t]) == pytest.approx(expected, rel=1e-6, abs=1e-8)
        assert not slopes[end:].any()
    if name in HISTORY:
        assert slopes[:23].abs().max() > 0, "earlier losses matter"


def test_many_at_once_equal_one_after_the_other():
    features, curves = Features(ALL), torch.tensor([curve(30, seed) for seed in range(5)])
    states = tuple(s.expand(5, *s.shape).clone() for s in features.init())
    loop = torch.stack([along(features, row.unbind())[0] for row in curves], 1)
    for step in range(30):

        def one(loss, state, step=step):
            return features(loss, state, step=step, total_steps=STEPS)

        x, states = torch.func.vmap(one)(curves[:, step], states)
        assert torch.allclose(x, loop[step], rtol=1e-12, atol=1e-12)


def test_many_gradients_at_once_equal_one_after_the_other():
    def last(losses):
        return along(Features(ALL), losses.unbind())[0][-1].sum()

    curves = torch.tensor([curve(12, seed) for seed in range(3)])
    alone = torch.stack([torch.func.grad(last)(row) for row in curves])
    assert torch.allclose(torch.func.vmap(torch.func.grad(last))(curves), alone, atol=1e-12)


# What makes them useful


@pytest.mark.parametrize("scale", [0.01, 30.0])
def test_features_of_the_history_do_not_change_when_the_losses_are_scaled(scale):
    x, _ = along(Features(HISTORY), curve())
    scaled, _ = along(Features(HISTORY), [scale * loss for loss in curve()])
    assert torch.allclose(scaled, x, atol=1e-8)


@pytest.mark.parametrize("steps", SCALES)
def test_the_change_of_an_exponential_curve_is_its_rate_times_the_time_scale(steps):
    time = 5.0 * steps
    features = Features((f"change_{steps}",))
    read, state = features.fold(), features.init()
    for step in range(30 * steps):
        change = read(2.0 * math.exp(-step / time), step, 0, state)
        if step == 0:
            assert change == 0.0
    assert change == pytest.approx(-steps / time, rel=1e-6)


def test_the_change_of_a_constant_is_nothing_and_of_a_rise_is_positive():
    names = tuple(f"change_{steps}" for steps in SCALES)
    flat, _ = along(Features(names), [0.7] * 50)
    assert flat.abs().max() < 1e-12
    risen, _ = along(Features(names), [1.0] * 50 + [3.0] * 2)
    assert (risen[-1] > 0).all() and risen[-1].diff().max() < 0  # the short scales tell it first


def test_the_relative_loss_is_that_to_the_mean_of_the_first_ten():
    x, _ = along(Features(("relative_loss",)), [3.0, 1.0] * 5 + [2.0, 2 * math.e, 2 / math.e])
    assert x[10:, 0].tolist() == pytest.approx([0.0, 1.0, -1.0])


def test_the_normalised_loss_has_mean_zero_deviation_one_and_a_cut():
    noise = torch.randn(2000, generator=generator(1, "n"), dtype=torch.float64)
    x, state = along(Features(("normalised_loss",)), (7.0 + 0.3 * noise).unbind())
    assert float(x[200:].mean()) == pytest.approx(0.0, abs=0.1)
    assert float(x[200:].std()) == pytest.approx(1.0, abs=0.1)
    jumped, _ = along(Features(("normalised_loss",)), [1e6], state=state)
    assert float(jumped) == 5.0
    quiet, _ = along(Features(("normalised_loss",)), [1.0, 1.0 + 1e-7, 1.0])
    assert quiet.abs().max() < 1e-3, "rounding is no noise"


@pytest.mark.parametrize("loss", [0.0, -1.0, 1e-30, 1e30])
def test_every_feature_of_any_finite_loss_is_finite_and_has_finite_slopes(loss):
    losses = torch.full((3,), loss, dtype=torch.float64, requires_grad=True)
    x, _ = along(Features(ALL), losses.unbind())
    assert x.isfinite().all()
    assert torch.autograd.grad(x.sum(), losses)[0].isfinite().all()
    again = quickly(Features(ALL), [loss] * 3)
    assert again == [pytest.approx(row, abs=1e-12) for row in x.tolist()]


def test_the_end_of_the_run_is_the_end_of_progress():
    x, _ = along(Features(("progress",)), [1.0] * 6, total_steps=4)
    assert x[:, 0].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_each_feature_says_what_it_is_in_one_line():
    for name, told in FEATURES.items():
        assert told.meaning and "\n" not in told.meaning and told.unit
        assert f"`{name}`" in Features.__doc__


# In a controller

NETS = [
    LSTM(hidden=5, inputs=len(ALL)),
    LSTM(hidden=4, gates="ifgo", forget_offset=0.0, inputs=len(ALL), floor=1e-3),
    MLP((6, 3), inputs=len(ALL), floor=0.05),
]
FORMULA = InitialLossGamma(10)


def learned(net, gamma=0.5, features=None, seeds=(0, 1, 2), **options):
    stages = [net.init(seed) for seed in seeds]
    return Learned(net, stages, gamma, features=features or Features(ALL), **options)


def rates(controller, losses, state=None, start=0, total_steps=STEPS):
    state, out = controller.init() if state is None else state, []
    for step, loss in enumerate(losses, start):
        view = StepView(controller, step, total_steps=total_steps, loss=torch.tensor(loss))
        rate, state = controller(view, state)
        out.append(rate)
    return out, state


def slowly(controller, losses, total_steps=STEPS):
    """The same rates through the differentiable path."""
    memory, out = controller.init().memory, []
    for step, loss in enumerate(losses):
        stage = min(step * len(controller.stages) // total_steps, len(controller.stages) - 1)
        rate, memory = controller.pure(
            controller.stages[stage],
            torch.tensor(loss),
            memory,
            step=step,
            total_steps=total_steps,
        )
        out.append(float(rate))
    return out, memory


@pytest.mark.parametrize("gamma", [0.5, FORMULA, InitialLossGamma(10, recomputed=False)])
@pytest.mark.parametrize("net", NETS)
def test_fast_inference_equals_torch(net, gamma):
    fast, state = rates(learned(net, gamma), curve())
    slow, memory = slowly(learned(net, gamma), curve())
    assert fast == pytest.approx(slow, abs=1e-6)
    for mine, theirs in zip(state.memory, memory, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize("net", NETS)
def test_the_rate_is_above_the_floor(net):
    draw, found = generator(0, "x"), []
    for seed in range(4):
        big = tuple(100 * weight for weight in net.init(seed))
        x = 10 * torch.randn((20, len(ALL)), generator=draw)
        found += [float(net(big, row, net.memory())[0]) for row in x]
    assert net.floor <= min(found) and max(found) <= 1.0
    assert min(found) < net.floor + 0.1


@pytest.mark.parametrize("kind", [LSTM, MLP])
def test_even_steps_of_the_sigmoid_are_even_steps_of_the_logarithm(kind):
    plain, spread = kind(), kind(floor=1e-4)
    for seed in range(3):
        weights, memory = plain.init(seed), plain.memory()
        p, _ = plain(weights, torch.tensor(2.0), memory)
        q, _ = spread(weights, torch.tensor(2.0), memory)
        assert math.log10(q) == pytest.approx(-4 * (1 - float(p)), rel=1e-5)


def test_a_state_that_was_saved_goes_on_alike():
    controller, losses = learned(NETS[0], FORMULA), curve()
    whole, _ = rates(controller, losses)
    first, state = rates(controller, losses[:33])
    buffer = io.BytesIO()
    torch.save(pack(state), buffer)
    buffer.seek(0)
    packed = torch.load(buffer, weights_only=True)
    again = pickle.loads(pickle.dumps(controller))
    state = unpack(again.init(), packed)
    assert first + rates(again, losses[33:], state, 33)[0] == whole


def test_what_is_needed_follows_from_the_features_and_the_stages():
    assert Features(("change_share",)).needs == Need.LOSS | Need.HORIZON
    assert Features([n for n in HISTORY if n != "change_share"]).needs == Need.LOSS
    assert Features(("progress",)).needs == Need.LOSS | Need.HORIZON
    one = learned(LSTM(3, inputs=2), features=Features(("loss", "log_loss")), seeds=(0,))
    assert one.needs == Need.LOSS
    timed = learned(LSTM(3, inputs=2), features=Features(("loss", "run_length")), seeds=(0,))
    assert timed.needs == Need.LOSS | Need.HORIZON


def test_a_controller_with_features_and_a_formula_keeps_the_contract():
    check_controller(learned(NETS[1], FORMULA))


def test_the_fingerprint_tells_features_floors_and_formulas_apart():
    pair = Features(("loss", "progress"))
    kinds = [
        learned(LSTM(3, inputs=2), features=pair),
        learned(LSTM(3, inputs=2), features=Features(("progress", "loss"))),
        learned(LSTM(3, inputs=2, floor=0.1), features=pair),
        learned(LSTM(3, inputs=2), FORMULA, features=pair),
    ]
    assert len({kind.fingerprint for kind in kinds}) == len(kinds)


def test_many_networks_at_once_equal_one_after_the_other():
    controller = learned(NETS[0], FORMULA)
    phis = [NETS[0].init(seed) for seed in range(4)]
    weights = tuple(torch.stack(group) for group in zip(*phis, strict=True))
    memory = tuple(m.expand(4, *m.shape).clone() for m in controller.init().memory)
    losses = torch.tensor([curve(30, seed) for seed in range(4)])
    alone = [
        slowly(learned_by(phi), row.tolist())[0] for phi, row in zip(phis, losses, strict=True)
    ]
    for step in range(30):

        def one(phi, loss, memory, step=step):
            return controller.pure(phi, loss, memory, step=step, total_steps=STEPS)

        found, memory = torch.func.vmap(one)(weights, losses[:, step], memory)
        assert found.tolist() == pytest.approx([row[step] for row in alone], rel=1e-5)


def learned_by(phi):
    return Learned(NETS[0], [phi] * 3, FORMULA, features=Features(ALL))


class Reading(Waiting):
    """A run whose network reads all features."""

    def learner(self, phi):
        return Learned(self.net, (phi,), self.rate, features=Features(ALL))


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("net", [LSTM(8, inputs=len(ALL), floor=0.01), MLP((4,), inputs=len(ALL))])
def test_the_meta_gradient_through_the_features_agrees_with_differences(double, net):
    waiting = Reading("mlp", lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9), net)
    weights = (0.0, 0.5, 1.0)
    estimates = [waiting.estimate(kind(), weights) for kind in (Unroll, Adjoint)]
    for ours, theirs in zip(*(e.grads for e in estimates), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-12)
    ways = [torch.randn_like(weight) for weight in waiting.phi]
    slope = sum(float((g * way).sum()) for g, way in zip(estimates[0].grads, ways, strict=True))
    ends = []
    for size in (1e-5, -1e-5):
        phi = tuple(w + size * way for w, way in zip(waiting.phi, ways, strict=True))
        ends.append(waiting.estimate(Unroll(), weights, phi).loss)
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


# Gamma by the formula


def constant_output(gamma, num_stages=3):
    """A controller whose network gives one half, whatever it reads."""
    net = MLP((2,))
    weights = tuple(torch.zeros_like(weight) for weight in net.init(0))
    return Learned(net, [weights] * num_stages, gamma)


def test_gamma_is_computed_anew_at_each_stage_from_the_losses_of_the_one_before():
    losses = [4.0, 2.0, 3.0, 1.0, 0.7, 0.4, 0.2, 0.1, 9.0]
    found, _ = rates(constant_output(FORMULA), losses, total_steps=9)
    means = [4.0] * 3 + [3.0] * 3 + [0.7] * 3
    assert found == pytest.approx([0.5 * FORMULA(mean) for mean in means])
    frozen = InitialLossGamma(10, recomputed=False)
    found, _ = rates(constant_output(frozen), losses, total_steps=9)
    assert found == pytest.approx([0.5 * FORMULA(4.0)] * 9)


def test_a_run_that_is_first_asked_later_has_a_gamma():
    for start in (2, 3, 4):
        found, _ = rates(constant_output(FORMULA), [2.0], start=start, total_steps=9)
        assert found == pytest.approx([0.5 * FORMULA(2.0)])


def test_gamma_is_differentiable_in_the_losses_of_the_stage_before():
    losses = torch.tensor([4.0, 2.0, 3.0, 1.0], dtype=torch.float64, requires_grad=True)

    def gamma(values):
        state = FORMULA.init()
        for step, loss in enumerate(values):
            found, state = FORMULA.follow(loss, state, enters=step == 3)
        return found

    (slopes,) = torch.autograd.grad(gamma(losses.unbind()), losses)
    step = (FORMULA(3.0 + 1e-6) - FORMULA(3.0 - 1e-6)) / 2e-6
    assert slopes.tolist() == pytest.approx([step / 3] * 3 + [0.0])


# What is refused


@pytest.mark.parametrize("names", [(), ("loss", "loss"), ("loss", "weather")])
def test_names_that_make_no_features_are_refused(names):
    with pytest.raises(ValueError, match="at least one, each once, of loss, log_loss, relative"):
        Features(names)


def test_a_network_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"reads 1 features, but .* gives 2; build the ne"):
        learned(LSTM(3), features=Features(("loss", "progress")))


@pytest.mark.parametrize("kind", [LSTM, MLP])
@pytest.mark.parametrize("options", [{"inputs": 0}, {"floor": 1.0}, {"floor": -0.1}])
def test_options_of_no_use_are_refused(kind, options):
    with pytest.raises(ValueError, match="inputs is at least 1, floor at least 0 and below 1"):
        kind(**options)
