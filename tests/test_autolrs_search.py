"""Where the search tries next, given what it was told."""

import math

import numpy as np
import pytest

from meta_lr.baselines import autolrs_search
from meta_lr.baselines.autolrs_search import (
    Told,
    by_bound,
    confirmed,
    log_spaced,
    means,
    published,
    spread_out,
    standardised,
)

BEST = 0.43  # place of the least loss: 0.02 in [0.001, 1]


def ask_and_tell(ask, count=8, first=0.07):
    """Tell a search the parabola around BEST, beginning at a place; return the places."""
    told = [Told(first, (first - BEST) ** 2, 0.0)]
    while len(told) < count:
        place = ask(told)
        told.append(Told(place, (place - BEST) ** 2, 0.0))
    return np.array([point.place for point in told])


@pytest.mark.parametrize("kappa", [1e3, 1e6])
def test_a_large_kappa_fills_the_interval(kappa):
    """As measured with the published code: a random rate, the ends, and then the gaps."""
    places = ask_and_tell(lambda told: published(told, kappa, seed=0))
    assert {0.0, 1.0} <= set(places.round(6))
    assert np.diff(np.sort(places)).max() < 0.35
    assert sum(abs(places - BEST) < 0.05) <= 2


def test_a_small_kappa_searches():
    places = ask_and_tell(lambda told: published(told, 1.96, seed=0))
    assert sum(abs(places - BEST) < 0.05) >= 3, "as measured: 0.0195, 0.0201, 0.0198, ..."
    ours = ask_and_tell(lambda told: by_bound(told, [], 1.5, noisy=True))
    assert min(abs(ours - BEST)) < 0.02
    assert np.diff(np.sort(ours)).min() > 0.009, "the same batches would tell the same again"


def test_a_rate_that_was_tried_is_told_again_until_another_is_asked_for(monkeypatch):
    asked = []

    def stubborn(told, kappa, random, top):
        asked.append([point.place for point in told])
        return 0.0 if len(asked) < 4 else 0.3

    monkeypatch.setattr(autolrs_search, "_least_bound", stubborn)
    told = [Told(0.0, 0.0, 0.0), Told(1.0, 5.0, 0.0)]
    assert published(told, 0.0, seed=0) == 0.3
    assert asked == [[0.0, 1.0] + again * [0.0] for again in range(4)]
    monkeypatch.setattr(autolrs_search, "_least_bound", lambda told, kappa, random, top: 0.0)
    assert published(told, 0.0, seed=0) not in (0.0, 1.0), "no model insists for ever"


def test_a_failed_trial_counts_as_the_worst_and_ends_the_search_above_it():
    told = [Told(0.1, 1.0, 0.1), Told(0.3, 2.0, 0.2), Told(0.5, math.inf, 0.0)]
    (low, high, failed) = standardised(told)
    assert low.loss < high.loss == failed.loss
    assert np.std([low.loss, high.loss, failed.loss]) == pytest.approx(1.0)
    assert high.error == pytest.approx(2 * low.error) and failed.error == 1.0
    assert all(math.isfinite(point.loss) for point in standardised([told[2]] * 2))
    assert math.isfinite(published(told, 1.0, seed=0))
    assert by_bound(told, [], 1e6, noisy=True) < 0.5 < by_bound(told[:2], [], 1e6, noisy=True)
    assert 0.0 <= by_bound(told[:1], [], 1e6, noisy=True, top=0.2) <= 0.2
    assert 0.0 <= published(told[:1], 1e6, seed=0, top=0.2) <= 0.2
    assert by_bound([Told(0.0, math.inf, 0.0)], [], 1.0, noisy=True) > 0.0, "all have failed"


def test_errors_make_the_model_smooth():
    random = np.random.RandomState(0)
    places = np.linspace(0, 1, 10)
    bend = (places - BEST) ** 2
    told = [
        Told(p, b + 0.1 * r, 0.1)
        for p, b, r in zip(places, bend, random.standard_normal(10), strict=True)
    ]
    smooth, rough = (np.array(means(told, [], noisy=noisy)) for noisy in (True, False))
    told_losses = np.array([point.loss for point in told])
    assert np.abs(np.diff(smooth, 2)).sum() < np.abs(np.diff(rough, 2)).sum()
    assert abs(np.corrcoef(smooth, bend)[0, 1]) > abs(np.corrcoef(told_losses, bend)[0, 1])


def test_a_lucky_forecast_is_not_enough_and_an_unlucky_one_too_much():
    places = np.linspace(0, 1, 9)
    told = [Told(place, (place - 0.5) ** 2, 0.2) for place in places]
    told[0], told[5] = Told(0.0, -0.05, 0.2), Told(places[5], 0.3, 0.2)
    scores, alone = confirmed(told, [], noisy=True), standardised(told)
    assert scores[0] > alone[0].loss + 0.1, "the model doubts it"
    assert scores[5] == alone[5].loss == max(scores), "though the model would forgive it"


def test_what_is_known_from_before_moves_the_search():
    told = [Told(0.1, 1.0, 0.05), Told(0.9, 1.0, 0.05)]
    known = [Told(place, 5 * (place - 0.8) ** 2 - 1.5, 0.3) for place in (0.2, 0.5, 0.7, 0.8)]
    assert by_bound(told, known, 0.0, noisy=True) > 0.6
    assert means(told, known, noisy=True)[1] < means(told, known, noisy=True)[0]


def test_the_controls():
    assert [log_spaced(index, 3) for index in range(3)] == [0.0, 0.5, 1.0]
    assert log_spaced(0, 1) == 0.5
    places = [spread_out(index, 4, seed) for seed in range(20) for index in range(4)]
    assert [int(4 * place) for place in places] == 20 * [0, 1, 2, 3]
    assert len(set(places)) == 80
