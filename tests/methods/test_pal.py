"""PAL and LABPAL: against slow twins, where they step, what they cost and what they refuse."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from meta_lr.methods.autolr.labpal import LABPAL
from meta_lr.methods.autolr.pal import PAL
from meta_lr.records.reader import read_record
from meta_lr.seeds import seed_model
from meta_lr.tasks.quadratic import Quadratic
from meta_lr.training.loop import train
from tests.reference import labpal as slow_labpal
from tests.reference import pal as slow_pal
from tests.short_runs import steps_of
from tests.toys import Toy

PLAIN = Toy(dropout=0.0, norm=False)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def sgd(momentum, **options):
    return partial(torch.optim.SGD, lr=0.1, momentum=momentum, **options)


def rates_of(folder):
    return [row["lr"] for row in steps_of(folder)]


@pytest.mark.parametrize("momentum", [0.0, 0.4])
@pytest.mark.parametrize("options", [{}, {"mu": 0.1, "kappa": 1.2}, {"mu": 3.0, "max_step": 0.5}])
def test_pal_steps_as_the_published_optimizer_does(tmp_path, options, momentum):
    task = Toy()  # with dropout and BatchNorm
    train(task, sgd(momentum), PAL(**options), total_steps=40, folder=tmp_path)
    model, rates = task.model(), []
    twin = slow_pal.PAL(model.parameters(), momentum=momentum, **options)

    def closure(backward):
        seed_model(0, "model", len(rates))
        loss = task.loss(model, task.batch("train", len(rates)))
        if backward:
            loss.backward()
        return loss

    for _ in range(40):
        rates.append(twin.step(closure))
    assert rates_of(tmp_path) == pytest.approx(rates, rel=1e-6)
    assert len(set(rates)) > 20


def test_pal_finds_the_minimum_of_each_batchs_parabola(tmp_path):
    """On a quadratic the parabola is exact: rate = kappa g'u / u'Hu."""
    task = Quadratic(noise=0.5)
    model = task.model()
    batch = task.batch("train", 0)
    (g,) = torch.autograd.grad(task.loss(model, batch), [model.weight])
    expected = g @ g / (g @ task.hessian @ g)
    for options, factor in (({"kappa": 1.0}, 1.0), ({"kappa": 1.5, "mu": 0.3}, 1.5)):
        place = tmp_path / str(factor)
        train(task, sgd(0.0), PAL(**options, max_step=1e6), total_steps=1, folder=place)
        assert rates_of(place) == pytest.approx([factor * float(expected)], rel=1e-9)


def test_pal_costs_a_forward_pass_per_step():
    outcome = train(Toy(), sgd(0.4), PAL(), total_steps=12)
    assert outcome.search_cost == pytest.approx(12 / 3)


CASES = {
    "averages": {"reuse": 6, "skipped": 9, "average": 3, "batches": 4, "kappa": 1.0},
    "measures once": {"reuse": 100, "skipped": 90},
    "measures in the part that is skipped": {"reuse": 4, "skipped": 14, "kappa": 1.0},
    "short steps": {"reuse": 5, "skipped": 0, "max_step": 0.05},
}


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("name", CASES)
def test_labpals_rates_are_those_of_the_slow_twin(tmp_path, name, momentum):
    options = CASES[name]
    outcome = train(PLAIN, sgd(momentum), LABPAL(**options), total_steps=50, folder=tmp_path)
    ours = LABPAL(**options)
    rates = slow_labpal.run(
        PLAIN.model(),
        PLAIN.loss,
        partial(PLAIN.batch, "train"),
        steps=50,
        momentum=momentum,
        num_batches=ours.batches,
        reuse=ours.reuse,
        skipped=ours.skipped,
        average=ours.average,
        kappa=ours.kappa,
        top=ours.max_step,
    )
    assert rates_of(tmp_path) == pytest.approx(rates, rel=1e-5), "differences of 1e-4, of a loss"
    state = outcome.state
    assert len(set(rates)) >= state.num_accepted > 0
    assert outcome.search_cost == pytest.approx(state.num_measured * 3 * ours.batches / 3)
    notes = read_record(tmp_path).searches
    assert len(notes) == state.num_measured
    assert [row["found"] is not None for row in notes].count(True) == state.num_accepted


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PAL(mu=0.0), "PAL got mu=0.0; it needs a finite number > 0"),
        (lambda: PAL(kappa=float("nan")), "PAL got kappa=nan"),
        (lambda: LABPAL(batches=0), "LABPAL got batches=0; it needs a whole number >= 1"),
        (lambda: LABPAL(skipped=-1), "LABPAL got skipped=-1; it needs a whole number >= 0"),
        (lambda: LABPAL(kappa=0.0), "LABPAL got kappa=0.0; it needs a finite number > 0"),
        (lambda: LABPAL(min_norm=2.0, max_norm=1.0), "it needs 0 <= min_norm < max_norm"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_first_direction_out_of_bounds_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"has the norm .*; widen these"):
        train(Toy(), sgd(0.0), LABPAL(max_norm=2e-3), total_steps=5)
    adam = partial(torch.optim.Adam, lr=0.1)
    outcome = train(Toy(), adam, LABPAL(max_norm=1e6, reuse=5, skipped=0), total_steps=20)
    assert outcome.status == "finished" and outcome.state.num_accepted > 0
