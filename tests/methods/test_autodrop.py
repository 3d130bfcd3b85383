"""AutoDrop, both versions: against slow twins on small runs, and its controls."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from meta_lr.methods.autodrop.epochs import AutoDropEpochs
from meta_lr.methods.autodrop.windows import AutoDrop, smooth
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.text import from_text
from meta_lr.protocol import Average, Need, StepView
from meta_lr.testing import check_controller
from meta_lr.testing.compare import difference, leaves
from meta_lr.training.loop import train
from tests.reference import autodrop as slow
from tests.short_runs import steps_of
from tests.toys import Toy

PLAIN = Toy(dropout=0.0, norm=False, batches=7)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


def sgd(params):
    return torch.optim.SGD(params, lr=1.0, momentum=0.9, nesterov=True, weight_decay=5e-4)


def adam(params):
    return torch.optim.Adam(params, lr=1.0)


def twin_of(run, optimizer, **told):
    """Return what a slow twin gives, and its weights at the end."""
    model = PLAIN.model()
    batch = partial(PLAIN.batch, "train")
    given = run(model, optimizer(model.parameters()), PLAIN.loss, batch, **told)
    return given, slow.flat(model)


def rates_of(folder):
    return [row["lr"] for row in steps_of(folder)]


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (sgd, {}),
        (sgd, {"k": 3, "m": 4, "buffer": 4, "signed": True}),
        (sgd, {"k": 1, "rho": 0.5, "m": 3, "buffer": 6, "floor": 0.02}),
        (adam, {"peak": 0.01, "buffer": 3, "m": 30}),
    ],
    ids=["absolute", "signed", "floor", "adam"],
)
def test_rates_are_those_of_the_papers_algorithm(tmp_path, optimizer, options):
    chosen = {"peak": 0.1, "k": 2, "rho": 0.8, "m": 10, "buffer": 5, "floor": 1e-4} | options
    method = AutoDrop(**chosen, threshold=4.0)
    outcome = train(PLAIN, optimizer, method, total_steps=150, folder=tmp_path)
    told = {name: chosen[name] for name in ("rho", "k", "m", "floor")}
    told |= {"lr": chosen["peak"], "least": chosen["buffer"], "signed": chosen.get("signed", False)}
    (rates, _), weights = twin_of(slow.run_2024, optimizer, steps=150, threshold=4.0, **told)
    assert rates_of(tmp_path) == rates
    assert outcome.state.num_drops == len(set(rates)) - 1 >= 3
    ended = torch.nn.utils.parameters_to_vector(outcome.model.parameters())
    assert ended.tolist() == pytest.approx(weights.tolist(), rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"average": False},
        {"extra_epochs": 1},
        {"floor": 0.03, "extra_epochs": 2},
    ],
    ids=["average", "plain", "at once", "floor"],
)
def test_learning_rates_and_weights_are_those_of_the_twin(tmp_path, options):
    chosen = {"rho": 0.5, "theta": 10.0, "upper_theta": 30.0, "extra_epochs": 3} | options
    method = AutoDropEpochs(0.1, **chosen)
    outcome = train(PLAIN, sgd, method, total_steps=30 * 7, folder=tmp_path)
    (rates, _, drops), weights = twin_of(
        slow.run_2021,
        sgd,
        epochs=30,
        per_epoch=7,
        lr=0.1,
        rho=0.5,
        theta=chosen["theta"],
        cap=chosen["upper_theta"],
        floor=chosen.get("floor", 1e-4),
        extra=chosen["extra_epochs"],
        average=chosen.get("average", True),
    )
    assert rates_of(tmp_path) == rates
    ended = torch.nn.utils.parameters_to_vector(outcome.model.parameters())
    assert ended.tolist() == pytest.approx(weights.tolist(), rel=1e-9)
    assert outcome.state.num_drops == len(set(rates)) - 1 >= 2
    assert outcome.state.num_averages == (len(drops) if method.average else 0)
    assert "floor" not in options or len(drops) > outcome.state.num_drops, "goes on at the floor"


def test_the_average_is_returned_at_the_second_step_of_an_epoch():
    method = AutoDropEpochs(0.1, theta=180.0, upper_theta=180.0, extra_epochs=2)
    state, answers = method.init(), {}
    for step in range(24):
        params = [torch.tensor([math.cos(step), math.sin(step)])]
        rate, state = method(StepView(method, step, steps_per_epoch=4, params=params), state)
        if isinstance(rate, Average):
            answers[step] = rate
    assert list(answers) == [17], "latched in the fourth epoch, dropped in the fifth"
    rate, weight, (rest,) = answers[17]
    assert (rate, weight, state.lr) == (0.1, 2 / 3, 0.2 * 0.1), "the rate drops after that step"
    after_second = torch.tensor([math.cos(14), math.sin(14)])
    assert rest.tolist() == pytest.approx((after_second / 3).tolist())


def test_what_was_saved_on_another_device_is_averaged_where_the_parameters_are():
    method = AutoDropEpochs(0.1, theta=180.0, upper_theta=180.0, extra_epochs=1)
    here, there = [torch.ones(2)], [torch.ones(2, device="meta")]
    state = method.init()._replace(trail=(tuple(here), tuple(here)), total=tuple(here), counter=1)
    rate, _ = method._drop(StepView(method, 9, steps_per_epoch=4, params=there), state)
    assert rate.rest[0].device.type == "meta"


@pytest.mark.parametrize(
    "method",
    [
        AutoDrop(0.1, k=1, buffer=2, threshold=180.0),
        AutoDropEpochs(0.1, theta=180.0, upper_theta=180.0, extra_epochs=2),
    ],
)
def test_parameters_that_are_added_begin_a_new_path(method):
    """A layer is unfrozen in the middle of a run: angles are of the path since then."""
    state, params, drops = method.init(), [torch.zeros(2)], []
    for step in range(60):
        if step == 30:
            params = [*params, torch.zeros(3)]
        params = [p + torch.randn_like(p) for p in params]
        _, state = method(StepView(method, step, steps_per_epoch=3, params=params), state)
        assert not state.trail or len(state.trail[0]) == len(params)
        drops.append(state.num_drops)
    assert drops[-1] > drops[29] >= 1


def test_an_epoch_of_one_step_is_too_short_for_the_first_version():
    with pytest.raises(ValueError, match="an epoch has 1; make batches smaller, or take"):
        train(Toy(batches=1), sgd, AutoDropEpochs(0.1), total_steps=2)


def test_smoothing_is_a_mean_over_lags_and_nothing_for_steady_angles():
    assert smooth([3.0, 3.0, 3.0], 10) == 3.0
    assert smooth([90.0, 90.1, 90.2], 10) == pytest.approx(90.2, abs=1e-6)
    assert smooth([0.0, 1000.0], 2) == pytest.approx(1000 / (1 + math.exp(-0.5)))
    assert smooth([0.0, 1000.0], 1) == 1000.0, "no lag is within half the width"


@pytest.mark.parametrize(
    ("signed", "deviation", "windows"),
    [(False, 0.17, 13.1), (False, 0.24, 14.4), (True, 0.17, 11.5), (True, 0.24, 11.5)],
)
def test_white_noise_drops_the_rate_as_often_as_the_published_curves_fall(
    signed, deviation, windows
):
    method = AutoDrop(0.1, k=1, floor=0.0, noise=deviation, signed=signed)
    state = method.init()
    for step in range(8000):
        _, state = method(StepView(method, step), state)
    assert 8000 / state.num_drops == pytest.approx(windows, abs=0.3)


def test_noise_is_a_function_of_seed_and_window_and_reads_nothing(tmp_path):
    def run(seed, *, of_run):
        method = AutoDrop(0.1, k=2, rho=0.5, noise=0.2, seed=seed)
        assert method.needs == Need.NOTHING
        place = tmp_path / f"{seed} {of_run}"
        train(PLAIN, sgd, method, total_steps=120, folder=place, seed=of_run)
        return rates_of(place)

    first, second = run(0, of_run=0), run(1, of_run=0)
    assert run(0, of_run=1) == first
    assert first != second and len(set(first)) >= 3
    falls = [step for step in range(1, 120) if first[step] < first[step - 1]]
    assert all(step % 2 == 0 for step in falls), "only where a window ends"


def test_the_control_with_noise_keeps_the_contract():
    check_controller(AutoDrop(0.1, k=2, buffer=3, threshold=5.0, noise=5.0), steps=48)


def test_a_decay_that_is_held_at_first_is_a_composite_of_lrbench():
    method = from_text("lrPolicy_FIX+k0_0.1-lrPolicy_STEP+k0_0.1+l_4+gamma_0.95-AT-6")
    rates = [method(StepView(method, step), method.init())[0] for step in range(6, 16)]
    assert rates == pytest.approx([0.1] * 4 + [0.095] * 4 + [0.09025] * 2)


def test_drops_that_are_replayed_at_their_steps_give_the_same_run(tmp_path):
    method = AutoDrop(0.1, k=2, rho=0.5, buffer=5, threshold=4.0, floor=0.0)
    found = train(PLAIN, sgd, method, total_steps=150, folder=tmp_path / "found")
    rates = rates_of(tmp_path / "found")
    falls = [step for step in range(1, 150) if rates[step] < rates[step - 1]]
    replay = Policy("nstep", 0.1, l=falls, gamma=0.5)
    again = train(PLAIN, sgd, replay, total_steps=150, folder=tmp_path / "replayed")
    assert rates_of(tmp_path / "replayed") == rates and len(falls) >= 3
    assert difference(leaves(found.model.state_dict()), leaves(again.model.state_dict())) == ""


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AutoDrop(0.1, rho=1.0), r"AutoDrop got rho=1.0; it needs a factor in \(0, 1\)"),
        (lambda: AutoDrop(1e-5), "got peak=1e-05, floor=0.0001; it needs 0 <= floor <= peak"),
        (lambda: AutoDrop(0.1, k=0), "AutoDrop got k=0; it needs a whole number >= 1"),
        (lambda: AutoDrop(0.1, buffer=1), "got buffer=1; it needs a whole number >= 2"),
        (lambda: AutoDrop(0.1, threshold=-1.0), "got threshold=-1.0; it needs degrees"),
        (lambda: AutoDrop(0.1, noise=math.inf), "got noise=inf; it needs degrees, finite and >= 0"),
        (lambda: AutoDropEpochs(0.1, rho=0.0), "AutoDropEpochs got rho=0.0; it needs a factor"),
        (lambda: AutoDropEpochs(0.1, theta=2.0), "got theta=2.0, upper_theta=1.0; it needs 0 <="),
        (lambda: AutoDropEpochs(0.1, extra_epochs=0), "extra_epochs=0; it needs a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
