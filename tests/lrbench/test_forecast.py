"""How low a run's error may still come: the forecast by hand, and how often it is wrong."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.hopeless import replayed
from meta_lr.lrbench.forecast import EARLIEST, FEWEST, error_at, lowest_error, rates_of
from meta_lr.lrbench.metrics import Point
from meta_lr.lrbench.space import Space
from meta_lr.lrbench.trainer import trainer
from meta_lr.methods.basic import Cosine
from meta_lr.methods.policies.formula import Policy
from meta_lr.tasks import Quadratic, digits
from meta_lr.tasks.models import MLP
from tests.lrbench.choosers import Random
from tests.toys import LossRate

T = 300


def curve(error, *, until=T, every=10):
    """The evaluations of a run whose error after t steps is error(t)."""
    return [Point(t, float(t), 1 - error(t), None) for t in range(every, until + 1, every)]


def power(exponent, scale=1.0):
    return lambda t: min(0.9, scale * t**-exponent)


FIX = rates_of(Policy("fix", 0.1), T, 10)


def test_early_on_nothing_is_forecast():
    assert lowest_error([], T, FIX) is None
    few = curve(power(1.2), every=40)[: FEWEST - 1]
    assert few[-1].step > EARLIEST * T and lowest_error(few, T, FIX) is None
    soon = curve(power(1.2), until=int(EARLIEST * T) - 1)
    assert len(soon) > FEWEST and lowest_error(soon, T, FIX) is None
    assert lowest_error(curve(power(1.2), until=int(EARLIEST * T)), T, FIX) is not None
    assert lowest_error(curve(power(1.2)), T, FIX) is None, "at its end there is nothing to foresee"


@pytest.mark.parametrize("exponent", [0.5, 1.2, 2.0])
def test_what_falls_as_a_power_is_never_forecast_higher_nor_as_low_as_one_likes(exponent):
    found = lowest_error(curve(power(exponent), until=150), T, FIX)
    assert 0.2 * T**-exponent < found <= T**-exponent


def test_a_curve_that_is_flat_is_granted_a_slope():
    found = lowest_error(
        [Point(t, t, 0.8 if t > 10 else 0.0, None) for t in range(10, 151, 10)], T, FIX
    )
    assert found == pytest.approx(0.2 * 0.5, rel=1e-9)


def test_a_rate_that_has_yet_to_fall_may_bring_much_and_one_that_fell_nothing():
    known = curve(power(1.2), until=150)
    drop = Policy("nstep", 0.1, l=[240], gamma=0.2)
    alone = lowest_error(known, T, FIX)
    assert lowest_error(known, T, rates_of(drop, T, 10)) == pytest.approx(alone * 0.2**0.4)
    deep = Policy("nstep", 0.1, l=[240], gamma=1e-4)
    assert lowest_error(known, T, rates_of(deep, T, 10)) == pytest.approx(alone * 0.4)
    assert lowest_error(known, T, None) == pytest.approx(alone * 0.4), "it cannot be known"
    early = Policy("nstep", 0.1, l=[50], gamma=0.2)
    assert lowest_error(known, T, rates_of(early, T, 10)) == pytest.approx(alone)


def test_a_rate_that_has_yet_to_rise_makes_steps_count_for_more():
    rising = rates_of(Policy("tri", 0.01, k1=0.1, l=T), T, 10)
    flat = [Point(t, t, 0.8 if t > 10 else 0.0, None) for t in range(10, 151, 10)]
    assert rising.fall(150) == 1.0 and rising.rise(150) == pytest.approx(0.0775 / 0.0438, rel=0.05)
    expected = 0.2 / (1 + rising.rise(150))
    assert lowest_error(flat, T, rising) == pytest.approx(expected)


def test_where_nothing_is_learned_yet_a_fall_of_the_rate_may_bring_anything():
    stuck = [Point(t, t, 0.1 + t * 1e-6, None) for t in range(10, 151, 10)]
    deep = rates_of(Policy("nstep", 0.1, l=[240], gamma=1e-8), T, 10)
    assert lowest_error(stuck, T, deep) < 1e-3 < lowest_error(stuck, T, FIX)


def test_noise_of_the_evaluations_and_few_examples_make_it_hope():
    calm = curve(power(1.2), until=150)
    noise = np.random.default_rng(0).normal(0, 0.2, len(calm))
    wild = [
        p._replace(accuracy=1 - (1 - p.accuracy) * np.exp(n))
        for p, n in zip(calm, noise, strict=True)
    ]
    assert lowest_error(wild, T, FIX) < 0.8 * min(1 - p.accuracy for p in wild) * 0.5
    error = 1 - calm[-1].accuracy
    few = np.exp(-2 * np.sqrt((1 - error) / (error * 500)))
    assert lowest_error(calm, T, FIX, examples=500) == pytest.approx(
        lowest_error(calm, T, FIX) * few
    )


def test_losses_serve_where_there_is_no_accuracy():
    losses = [Point(t, t, None, 3 * t**-1.2) for t in range(10, 151, 10)]
    assert 0.2 < lowest_error(losses, T, FIX, examples=10) / (3 * T**-1.2) <= 1
    assert error_at(1.5, losses) == 1.5 and error_at(0.75, curve(power(1.0))) == 0.25
    broken = [*losses[:-1], losses[-1]._replace(loss=None)]
    assert lowest_error(broken, T, FIX) is None


def test_an_exponential_goes_on_too_and_what_is_not_positive_is_not_forecast():
    falls = [Point(t, t, None, math.exp(-0.05 * t)) for t in range(10, 151, 10)]
    assert 0.5 < lowest_error(falls, T, FIX) / math.exp(-0.05 * T) <= 1
    below = [Point(t, t, None, 1 - 0.01 * t) for t in range(10, 151, 10)]
    assert lowest_error(below, T, FIX) is None


def test_losses_that_fall_exponentially_are_rarely_called_hopeless_falsely(tmp_path):
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    met = false = called = 0
    for options in ({}, {"noise": 0.0}, {"noise": 0.0, "condition": 3.0}):
        make = partial(Quadratic, **options)
        train = trainer(lambda seed, make=make: make(seed=seed), sgd, total_steps=90, eval_every=6)
        space, choose = Space(0.003, 0.3, 90), Random(np.random.default_rng(2))
        place = tmp_path / str(options)
        results = [train(space.choose(choose), place / str(n), seed=n) for n in range(10)]
        found = replayed(results, steps_per_epoch=train.steps_per_epoch, examples=0)
        met, false, called = met + found.met, false + found.false, called + found.called
    assert met >= 75 and false <= 0.05 * met and called >= 50


def test_the_rates_of_a_policy_are_known_and_those_of_a_listener_are_not():
    rates = rates_of(Cosine(0.1), 100, 10)
    assert rates.fall(0) < 0.01 and rates.fall(50) < 0.05
    up = rates_of(Policy("tri", 0.01, k1=0.1, l=50), 100, 10)
    assert up.fall(60) == pytest.approx(0.0154 / 0.0676)
    assert rates_of(Policy("step", 0.1, l=2, gamma=0.5, per="epoch"), 100, 10).fall(99) == 1.0
    assert rates_of(LossRate(), 100, 10) is None


def test_few_runs_are_called_hopeless_falsely_and_much_is_saved(tmp_path):
    """Policies at random, run to the end, each with targets about what it reaches."""
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    train = trainer(lambda seed: digits(MLP, seed=seed), sgd, total_steps=150, eval_every=6)
    space, choose = Space(0.003, 0.3, 150), Random(np.random.default_rng(5))
    results = [train(space.choose(choose), tmp_path / str(n), seed=200 + n) for n in range(12)]
    found = replayed(results, steps_per_epoch=train.steps_per_epoch, examples=train.val_examples)
    assert found.pairs >= 60 and found.met >= 30
    assert found.false <= 0.05 * found.met
    assert found.called > 0.3 * (found.pairs - found.met) and found.saved > 0.03 * found.cost
