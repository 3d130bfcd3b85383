"""Where the search tries next, given what it was told."""

import math

import numpy as np
import pytest

from meta_lr.methods.autolrs import search as autolrs_search
from meta_lr.methods.autolrs.search import (
    ALIKE,
    Told,
    by_bound,
    likely,
    published,
    standardised,
    with_errors,
)
from meta_lr.methods.autolrs.trials import Seen

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
    ours = ask_and_tell(lambda told: by_bound(told, 1.5))
    assert min(abs(ours - BEST)) < 0.02
    assert np.diff(np.sort(ours)).min() > 0.009, "the same batches would tell the same again"


def test_a_rate_that_was_tried_is_told_again_until_another_is_asked_for(monkeypatch):
    asked = []

    def stubborn(told, kappa, random, within):
        asked.append([point.place for point in told])
        return 0.0 if len(asked) < 4 else 0.3

    monkeypatch.setattr(autolrs_search, "_least_bound", stubborn)
    told = [Told(0.0, 0.0, 0.0), Told(1.0, 5.0, 0.0)]
    assert published(told, 0.0, seed=0) == 0.3
    assert asked == [[0.0, 1.0] + again * [0.0] for again in range(4)]
    monkeypatch.setattr(autolrs_search, "_least_bound", lambda told, kappa, random, within: 0.0)
    assert published(told, 0.0, seed=0) not in (0.0, 1.0), "no model insists for ever"


def test_the_published_process_sees_centred_losses_in_their_own_unit(monkeypatch):
    seen, fitted = [], autolrs_search._fitted

    def watched(places, values, bounds, **options):
        seen.append(values.tolist())
        return fitted(places, values, bounds, **options)

    monkeypatch.setattr(autolrs_search, "_fitted", watched)
    published([Told(0.1, 3.0), Told(0.5, 5.0), Told(0.9, 10.0)], 1e3, seed=0)
    assert seen == [[-3.0, -1.0, 4.0]]


def test_a_failed_trial_counts_as_the_worst_and_ends_the_search_above_it():
    told = [Told(0.1, 1.0, 0.1), Told(0.3, 2.0, 0.2), Told(0.5, math.inf, 0.0)]
    low, high, failed = losses = standardised(told)
    assert low < high == failed
    assert np.std(losses) == pytest.approx(1.0) and np.mean(losses) == pytest.approx(0.0)
    assert np.isfinite(standardised([told[2]] * 2)).all()
    assert math.isfinite(published(told, 1.0, seed=0))
    assert by_bound(told, 1e6) < 0.5 < by_bound(told[:2], 1e6)
    assert 0.0 <= by_bound(told[:1], 1e6, within=(0.0, 0.2)) <= 0.2
    assert 0.0 <= published(told[:1], 1e6, seed=0, within=(0.0, 0.2)) <= 0.2
    assert by_bound([Told(0.0, math.inf, 0.0)], 1.0) > 0.0, "all have failed"


def test_the_search_stays_within_its_range():
    told = [Told(0.4, 1.0, 0.1), Told(0.5, 0.0, 0.1)]
    for kappa in (0.0, 1e6):
        assert 0.4 <= by_bound(told, kappa, within=(0.4, 0.5)) <= 0.5
        assert 0.4 <= published(told, kappa, seed=0, within=(0.4, 0.5)) <= 0.5


def test_rates_that_cannot_be_told_apart_are_averaged():
    told = [Told(0.2, 1.0, 0.5), Told(0.4, 1.0, 0.5), Told(0.6, 1.0, 0.5)]
    assert likely(told, seed=0) == pytest.approx(0.4, abs=0.01)
    clear = [told[0], told[1]._replace(loss=-2.0), told[2]]
    assert likely(clear, seed=0) == pytest.approx(0.4, abs=0.001)
    half = [told[0]._replace(loss=9.0), *told[1:]]
    assert likely(half, seed=0) == pytest.approx(0.5, abs=0.01)
    assert likely([point._replace(error=0.0) for point in told[::-1]], seed=0) in (0.2, 0.4, 0.6)
    assert likely(told, seed=3) == likely(told, seed=3)


def seen(place, *losses):
    return Told(place, float(np.mean(losses)), 0.0, Seen(after=losses))


def test_what_all_trials_have_in_common_is_no_error():
    """The batches differ by whole units, the rates by hundredths, and the same on each batch."""
    hard = np.array([1.0, 2.0, 3.0, 4.0])
    told = [seen(0.1, *hard), seen(0.5, *(hard - 0.05)), seen(0.9, *(hard + 0.01))]
    sure, unsure = (with_errors(told, paired=paired) for paired in (True, False))
    least = ALIKE * 2.5
    assert [point.error for point in sure] == pytest.approx([least] * 3, rel=0.05)
    assert all(point.error > 10 * least for point in unsure), "if each had batches of its own"
    (alone,), failed = with_errors(told[:1], paired=True), Told(0.95, math.inf)
    assert alone.error == pytest.approx(least) and with_errors([failed], paired=True) == [failed]
    assert with_errors([*told, failed], paired=True) == [*sure, failed]


def test_one_bad_trial_leaves_the_others_errors_as_they_are():
    random = np.random.RandomState(0)
    hard = 1 + 0.3 * random.standard_normal(8)
    losses = [hard + 0.02 * random.standard_normal(8) + 0.2 * (p - 0.8) ** 2 for p in (0.2, 0.8)]
    told = [seen(p, *loss) for p, loss in zip((0.2, 0.8), losses, strict=True)]
    bad = seen(1.0, *(4 + 2.5 * random.standard_normal(8)))
    assert with_errors([*told, bad], paired=True)[:2] == with_errors(told, paired=True)


def test_losses_may_be_negative():
    told = with_errors([seen(0.1, -3.0, -4.0), seen(0.5, -3.5, -4.6)], paired=True)
    assert all(point.error > 0.0 for point in told) and likely(told, seed=0) > 0.4
