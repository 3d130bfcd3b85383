"""AutoLR's reconstruction: against a slow twin, on quadratics, its costs and what it refuses."""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.fits import Watched
from meta_lr.methods.autolr.fit import fit
from meta_lr.methods.autolr.method import AutoLR
from meta_lr.methods.autolr.seed import sweep
from meta_lr.methods.basic import Constant
from meta_lr.methods.knee import Knee
from meta_lr.records.reader import read_rows
from meta_lr.seeds import seed_model
from meta_lr.tasks.quadratic import Quadratic
from meta_lr.testing.compare import difference, leaves
from meta_lr.training.loop import StoppedError, train
from tests.reference import autolr as slow
from tests.short_runs import record_of, steps_of, stop_when
from tests.toys import Toy

SGD = partial(torch.optim.SGD, lr=0.1)
OPTIMIZERS = {
    "sgd": (SGD, 0.5),
    "momentum": (partial(SGD, momentum=0.9, weight_decay=1e-2), 0.05),
    "adam": (partial(torch.optim.Adam, lr=0.1), 0.01),
    "adamw": (partial(torch.optim.AdamW, lr=0.1, weight_decay=0.5), 0.01),
}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def rates_of(folder):
    return [row["lr"] for row in steps_of(folder)]


def noted(folder, what="fit"):
    rows = read_rows(folder)
    return [row for row in rows if row["kind"] == "search" and row["what"] == what]


def seeded_loss(task):
    """The loss of a training batch, or of a fresh one, with dropout as in the run."""

    def loss(model, step, draw):
        batch = task.batch("train", step, draw)
        seed_model(0, "model", step, *(() if draw is None else ("train", draw)))
        return task.loss(model, batch)

    return loss


@pytest.mark.parametrize(
    ("name", "fresh", "shrink"),
    [
        (name, fresh, shrink)
        for name in OPTIMIZERS
        for fresh, shrink in ((True, False), (False, False), (True, True))
    ],
)
def test_each_probe_is_where_a_real_step_of_the_optimizer_leads(tmp_path, name, fresh, shrink):
    optimizer, seed_rate = OPTIMIZERS[name]
    task, same = Toy(), {"seed_rate": seed_rate, "period": 4, "damping": 0.4, "trust": 3.0}
    same["shrink"] = shrink
    method = AutoLR(**same, warmup=0.1, explore=0.3, batches=3 if fresh else 1, fresh=fresh)
    train(task, optimizer, method, total_steps=40, folder=tmp_path)
    model = task.model()
    rates, fits = slow.run(
        model,
        optimizer(model.parameters()),
        seeded_loss(task),
        steps=40,
        warmup=4,
        explore=12,
        draws=[0, 1, 2] if fresh else [None],
        multiples=method.multiples,
        least_r2=method.least_r2,
        **same,
    )
    assert rates_of(tmp_path) == pytest.approx(rates, rel=1e-6)
    notes = noted(tmp_path)
    ours = [(row["step"], row["optimum"], row["r2"], row["accepted"]) for row in notes]
    assert len(ours) == len(fits) == 9
    for one, other in zip(ours, fits, strict=True):
        assert one == pytest.approx(other, rel=1e-5, nan_ok=True)
    assert [row["phase"] for row in notes] == 3 * ["explore"] + 6 * ["exploit"]
    assert any(row["accepted"] for row in notes[3:]) and len({*rates[16:]}) > 1
    assert rates[4:16] == 12 * [seed_rate], "the explore phase does not follow its fits"


@pytest.mark.parametrize("name", ["momentum", "adamw", "sgd", "adam"])
def test_on_a_quadratic_the_rate_is_the_minimiser_along_the_step(tmp_path, name):
    """With noise in the batches: m* = (H e)'u / (u'Hu), e the distance to the optimum."""
    optimizer, _ = OPTIMIZERS[name]
    task = Quadratic(noise=0.5)
    model = task.model()
    real = optimizer(model.parameters())
    task.loss(model, task.batch("train", 0)).backward()
    before = model.weight.detach().clone()
    real.step()
    u = (before - model.weight.detach()) / 0.1  # the optimizers' rate
    error = before - task.optimum
    best = float((task.hessian @ error) @ u / (u @ task.hessian @ u))
    for seed_rate in (0.6 * best, 1.5 * best):
        place = tmp_path / str(seed_rate)
        method = AutoLR(seed_rate, explore=0.0, batches=400, damping=1.0)
        outcome = train(task, optimizer, method, total_steps=1, folder=place)
        assert rates_of(place) == pytest.approx([best], rel=0.05)
        assert outcome.state.num_accepted == outcome.state.num_fits == 1


def test_where_any_step_raises_the_loss_the_rate_falls_if_asked(tmp_path):
    """Momentum that has carried the weights past the optimum points uphill."""
    task = Quadratic(noise=0.0)
    rates = {}
    for shrink in (False, True):
        place = tmp_path / str(shrink)
        options = {"period": 1, "damping": 1.0, "least_r2": -1.0, "batches": 1}
        method = AutoLR(0.02, explore=0.0, shrink=shrink, **options)
        train(task, partial(SGD, momentum=0.99), method, total_steps=60, folder=place)
        rates[shrink] = rates_of(place)
        uphill = [row["step"] for row in noted(place) if row["optimum"] < 0]
        assert uphill
        first = uphill[0]
        expected = rates[shrink][first - 1] / (2 if shrink else 1)
        assert rates[shrink][first] == pytest.approx(expected)


def test_on_its_own_batch_a_larger_rate_seems_better_than_it_is(tmp_path):
    """The bias of the same-batch probe: the direction has the batch's noise in it."""
    task = Quadratic(noise=2.0)
    found = {}
    for fresh in (True, False):
        place = tmp_path / str(fresh)
        method = AutoLR(0.1, explore=1.0, period=1, batches=10 if fresh else 1, fresh=fresh)
        train(task, SGD, method, total_steps=50, folder=place)
        optima = [row["optimum"] for row in noted(place)[20:]]
        found[fresh] = sum(optima) / len(optima)
    assert found[False] > 2 * found[True]


@pytest.mark.parametrize(("batches", "period"), [(3, 5), (1, 7)])
def test_the_overhead_is_the_predicted_number_of_forward_passes(batches, period):
    method = AutoLR(0.1, explore=0.4, period=period, batches=batches)
    outcome = train(Toy(), SGD, method, total_steps=50)
    fits = sum((step - 20) % period == 0 for step in range(50))
    assert outcome.state.num_fits == fits
    assert outcome.search_cost == pytest.approx(fits * batches * 4 / 3)
    share = batches * 4 / (3 * period)
    assert outcome.search_cost / 50 == pytest.approx(share, abs=batches * 4 / (3 * 50))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_whose_fits_are_ignored_is_the_plain_run_bit_for_bit(tmp_path, name):
    optimizer, rate = OPTIMIZERS[name]
    task = Toy()  # with dropout and BatchNorm
    explores = AutoLR(rate, explore=1.0, period=3, batches=2)
    probed = train(task, optimizer, explores, total_steps=30, folder=tmp_path / "probed")
    plain = train(task, optimizer, Constant(rate), total_steps=30, folder=tmp_path / "plain")
    assert probed.state.num_fits == 10 and probed.search_cost > plain.search_cost == 0.0
    losses = [[row["loss"] for row in steps_of(tmp_path / kind)] for kind in ("probed", "plain")]
    assert losses[0] == losses[1]
    assert difference(leaves(probed.model.state_dict()), leaves(plain.model.state_dict())) == ""


@pytest.mark.parametrize("asks", [0, 30, 61])
def test_a_fit_that_is_interrupted_is_made_again_bit_for_bit(tmp_path, asks):
    method = AutoLR(0.1, explore=0.2, period=3, batches=2)
    run = partial(train, Toy(), SGD, method, total_steps=30)
    run(folder=tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(folder=tmp_path / "parts", stop=stop_when(asks, asker="part_losses"))
    run(folder=tmp_path / "parts")
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def test_it_explores_as_knee_does(tmp_path):
    for name, method in {
        "knee": Knee(0.1, warmup=0.2, explore=0.5),
        "autolr": AutoLR(0.1, warmup=0.2, explore=0.5, period=5, batches=1),
    }.items():
        train(Toy(), SGD, method, total_steps=40, folder=tmp_path / name)
    knee, autolr = (rates_of(tmp_path / name) for name in ("knee", "autolr"))
    assert autolr[:28] == knee[:28] and autolr[28:] != knee[28:]


def test_groups_of_parameters_keep_their_ratio_in_the_probes(tmp_path):
    task = Toy(dropout=0.0, norm=False)

    def grouped(params):
        return torch.optim.SGD([{"params": params[:2]}, {"params": params[2:], "lr": 0.02}], lr=0.1)

    method = AutoLR(0.3, explore=1.0, period=1, batches=1, multiples=(0.0, 1.0, 2.0))
    train(task, grouped, method, total_steps=1, folder=tmp_path)
    model = task.model()
    optimizer = grouped(list(model.parameters()))
    task.loss(model, task.batch("train", 0)).backward()
    optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 0.3, 0.06
    optimizer.step()
    with torch.no_grad():
        expected = float(task.loss(model, task.batch("train", 0, 0)))
    (note,) = noted(tmp_path)
    assert note["losses"][1] == pytest.approx(expected, rel=1e-12)


def test_without_a_seed_rate_a_sweep_on_a_copy_finds_one(tmp_path):
    task = Quadratic()
    outcome = train(task, SGD, AutoLR(explore=1.0, period=9), total_steps=18, folder=tmp_path)
    (note,) = noted(tmp_path, "seed")
    assert rates_of(tmp_path) == 18 * [note["lr"]]
    assert 0.02 < note["lr"] < 2.0, "SGD is stable below 2"
    assert 50 < note["search_cost"] <= 100
    assert outcome.search_cost == pytest.approx(note["search_cost"] + 2 * 10 * 4 / 3)


class Scripted:
    """A sandbox whose trials lose what `loss` says of a rate."""

    def __init__(self, loss):
        self.loss = loss

    @contextmanager
    def trial(self):
        yield self

    def step(self, rate):
        return self.loss(rate)


def test_the_seed_rate_is_a_tenth_of_where_the_loss_is_least():
    scripted = Scripted(lambda rate: 2.0 if rate < 1e-3 else 1.0 if rate < 0.5 else math.inf)
    assert 0.8 * 0.5 / 10 < sweep(scripted) < 0.5 / 10
    rises = Scripted(lambda rate: 2.0 if rate < 1e-3 else 1.0 if rate < 0.5 else 1.0 + rate)
    assert sweep(rises) == pytest.approx(sweep(scripted), rel=0.2)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda rate: 2.0, "never falls clearly; pass seed_rate="),
        (lambda rate: 2.0 + rate, "never falls clearly"),
        (lambda rate: 1.0 / (1.0 + rate), "does not rise; pass seed_rate="),
    ],
)
def test_a_sweep_that_shows_no_seed_rate_is_refused(loss, said):
    with pytest.raises(ValueError, match=f"in a sweep from 1e-05 to 10 the loss {said}"):
        sweep(Scripted(loss))


def test_a_fit_is_trusted_only_with_a_minimum_ahead_and_little_left_over():
    x = (0.0, 0.5, 1.0, 2.0)
    good = fit(x, [[(m - 1.5) ** 2] for m in x])
    assert good.is_trusted(1 - 1e-9) and good.optimum == pytest.approx(1.5)
    behind = fit(x, [[(m + 0.5) ** 2] for m in x])
    assert behind.optimum == pytest.approx(-0.5) and not behind.is_trusted(0.0)
    assert behind.is_trusted(0.0, behind=True)
    hill = fit(x, [[-((m - 1.5) ** 2)] for m in x])
    assert math.isnan(hill.optimum) and not hill.is_trusted(0.0, behind=True)
    rough = fit(x, [[1.0], [0.2], [1.1], [0.9]])
    assert 0 < rough.r2 < 0.9 and not rough.is_trusted(0.9)
    for losses in ([1.0] * 4, [1.0, 0.5, math.inf, 2.0], [1.0, 0.5, math.nan, 2.0]):
        assert not fit(x, [[loss] for loss in losses]).is_trusted(0.0)


def test_the_error_of_an_optimum_is_how_it_scatters_with_the_batches():
    """Each batch has a quadratic of its own, so R^2 is 1 however they differ."""
    x, rng = (0.0, 0.5, 1.0, 2.0), np.random.default_rng(0)

    def drawn(count):
        a, b = rng.normal(1.0, 0.2, count), rng.normal(-3.0, 1.0, count)
        return fit(x, [list(a * m * m + b * m + 0.1) for m in x])

    found = [drawn(50) for _ in range(400)]
    assert min(each.r2 for each in found) == pytest.approx(1.0)
    scatter = float(np.std([each.optimum for each in found]))
    assert np.mean([each.error for each in found]) == pytest.approx(scatter, rel=0.1)
    most = scatter / 1.5
    assert {each.is_trusted(0.9, 2 * most) for each in found} == {True}
    assert {each.is_trusted(0.9, most / 2) for each in found} == {False}
    assert not drawn(1).is_trusted(0.9, 1.0), "of one batch no error is known"


def test_along_a_run_with_noise_what_is_followed_is_near_the_minimiser(tmp_path):
    """m* = (H e)'u / (u'Hu); where noise rules, R^2 is 1 and the optimum is anywhere."""
    task = Quadratic(noise=0.1)
    method = Watched(0.05, explore=0.0, period=1, batches=50, most_error=0.02, task=task)
    train(task, partial(SGD, momentum=0.9), method, total_steps=60, folder=tmp_path)
    wrong = {True: [], False: []}
    for known, row in zip(noted(tmp_path, "known"), noted(tmp_path), strict=True):
        assert row["r2"] == pytest.approx(1.0, abs=1e-3)
        wrong[row["accepted"]].append(abs(row["optimum"] / known["optimum"] - 1))
    assert len(wrong[True]) >= 5 and max(wrong[True]) < 0.05
    assert sum(not error < 0.05 for error in wrong[False]) >= 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed_rate": 0.0}, "AutoLR got seed_rate=0.0; it needs a finite number > 0, or null"),
        ({"explore": 1.5}, "it needs parts of the run"),
        ({"period": 0}, "got period=0; it needs a whole number >= 1"),
        ({"multiples": [0, 1, 1]}, "it needs three finite ones or more"),
        ({"multiples": [0, 1, math.inf]}, "it needs three finite ones or more"),
        ({"least_r2": 1.1}, "got least_r2=1.1; it needs a number <= 1"),
        ({"most_error": 0.0}, "got most_error=0.0; it needs a share > 0, or null"),
        ({"most_error": 0.1, "batches": 1}, "got batches=1; it needs two or more to know an error"),
        ({"damping": 0}, r"got damping=0; it needs a number in \(0, 1\]"),
        ({"trust": 1.0}, "got trust=1.0; it needs a finite factor > 1"),
        ({"fresh": False}, "got batches=10; it needs to be 1 with fresh=false"),
    ],
)
def test_what_makes_no_sense_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        AutoLR(**options)
