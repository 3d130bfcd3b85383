"""The robust forecast: right where the losses are exponential, and honest about where they are not.

What is published is compared with its twin in `test_autolrs_twin.py`.
"""

import numpy as np
import pytest

from meta_lr.baselines.autolrs_forecast import published, robust

SHAPES = {  # of a loss against time, in lengths of the trial
    "fast": lambda t: 2 * np.exp(-3 * t) + 0.5,
    "slow": lambda t: 2 * np.exp(-0.3 * t) + 0.5,
    "flat": lambda t: 0.5 + 0 * t,
    "power": lambda t: 2 * (1 + 10 * t) ** -0.5,
    "rising": lambda t: 1.5 - np.exp(-t),
}


@pytest.mark.parametrize("decay", [0.01, 0.05, 0.3])
def test_an_exponential_without_noise_is_found(decay):
    steps = np.arange(100)
    found = robust(steps, 2 * np.exp(-decay * steps) + 0.5, 1000)
    assert found.loss == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("noise", [0.02, 0.2])
@pytest.mark.parametrize("count", [4, 10, 100])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_truth_lies_within_two_errors(shape, count, noise):
    """In at least three of four cases: 19 of 20 would be right for what is exactly exponential."""
    steps, within = np.arange(count), 0
    for seed in range(40):
        random = np.random.RandomState(seed)
        losses = SHAPES[shape](steps / count) + noise * random.standard_normal(count)
        found = robust(steps, losses, 10 * count)
        within += abs(found.loss - SHAPES[shape](np.array(10.0))) < 2 * found.error
    assert within >= 30


def test_the_error_falls_with_the_noise_and_with_more_losses():
    def error(noise, count):
        random = np.random.RandomState(0)
        losses = 0.5 + noise * random.standard_normal(count)
        return robust(np.arange(count), losses, 1000).error

    assert error(0.02, 100) < error(0.2, 100) < error(0.2, 10)


def test_outliers_do_not_move_it():
    steps, random = np.arange(100), np.random.RandomState(0)
    losses = 2 * np.exp(-0.05 * steps) + 0.5 + 0.05 * random.standard_normal(100)
    spoiled = losses.copy()
    spoiled[10::9] += 5.0
    before, after = robust(steps, losses, 1000), robust(steps, spoiled, 1000)
    assert abs(before.loss - after.loss) < 0.05
    assert abs(published(losses, 1000).loss - published(spoiled, 1000).loss) > 0.2


def test_steps_may_have_gaps():
    steps = np.arange(0, 100, 7)
    losses = 2 * np.exp(-0.05 * steps) + 0.5
    assert robust(steps, losses, 1000).loss == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("losses", [[1.3], [1.3, 1.3], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
def test_what_does_not_change_goes_on(losses):
    found = robust(range(len(losses)), losses, 50)
    assert found.loss == pytest.approx(losses[-1], abs=1e-6)
    assert 0.0 <= found.own <= found.error < np.inf
    assert published(losses, 50).loss == pytest.approx(losses[-1], abs=1e-6) or len(losses) == 1


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_it_does_not_depend_on_the_unit_of_the_loss(scale):
    losses = np.array([3.0, 2.5, 2.2, 1.9, 1.8, 1.85, 1.7])
    once, scaled = robust(range(7), losses, 70), robust(range(7), scale * losses, 70)
    assert scaled == pytest.approx([scale * number for number in once], rel=1e-3)
