"""Where the published search tries next, and which rate ours takes, given what they were told."""

import math

import numpy as np
import pytest

from meta_lr.methods.autolrs import gaussian_process
from meta_lr.methods.autolrs.gaussian_process import next_place
from meta_lr.methods.autolrs.grid import ALIKE, likely, with_errors
from meta_lr.methods.autolrs.round import Told
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
    places = ask_and_tell(lambda told: next_place(told, kappa, seed=0))
    assert {0.0, 1.0} <= set(places.round(6))
    assert np.diff(np.sort(places)).max() < 0.35
    assert sum(abs(places - BEST) < 0.05) <= 2


def test_a_small_kappa_searches():
    places = ask_and_tell(lambda told: next_place(told, 1.96, seed=0))
    assert sum(abs(places - BEST) < 0.05) >= 3, "as measured: 0.0195, 0.0201, 0.0198, ..."


def test_a_rate_that_was_tried_is_told_again_until_another_is_asked_for(monkeypatch):
    asked = []

    def stubborn(told, kappa, rng):
        asked.append([point.place for point in told])
        return 0.0 if len(asked) < 4 else 0.3

    monkeypatch.setattr(gaussian_process, "_least_bound", stubborn)
    told = [Told(0.0, 0.0, 0.0), Told(1.0, 5.0, 0.0)]
    assert next_place(told, 0.0, seed=0) == 0.3
    assert asked == [[0.0, 1.0] + again * [0.0] for again in range(4)]
    monkeypatch.setattr(gaussian_process, "_least_bound", lambda *_: 0.0)
    assert next_place(told, 0.0, seed=0) not in (0.0, 1.0), "no model insists for ever"


def test_the_published_process_sees_centred_losses_in_their_own_unit(monkeypatch):
    seen, fitted = [], gaussian_process._fitted

    def watched(places, values, rng):
        seen.append(values.tolist())
        return fitted(places, values, rng)

    monkeypatch.setattr(gaussian_process, "_fitted", watched)
    next_place([Told(0.1, 3.0), Told(0.5, 5.0), Told(0.9, 10.0)], 1e3, seed=0)
    assert seen == [[-3.0, -1.0, 4.0]]


def test_a_search_with_failed_trials_goes_on():
    told = [Told(0.1, 1.0), Told(0.3, 2.0), Told(0.5, math.inf)]
    assert 0.0 <= next_place(told, 1.0, seed=0) <= 1.0
    assert 0.0 <= next_place(told[2:], 1.0, seed=0) <= 1.0, "all have failed"


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
    return Told(place, float(np.mean(losses)), 0.0, Seen(losses))


def test_what_all_trials_have_in_common_is_no_error():
    """The batches differ by whole units, the rates by hundredths, and the same on each batch."""
    hard = np.array([1.0, 2.0, 3.0, 4.0])
    told = [seen(0.1, *hard), seen(0.5, *(hard - 0.05)), seen(0.9, *(hard + 0.01))]
    sure, least = with_errors(told), ALIKE * 2.5
    assert [point.error for point in sure] == pytest.approx([least] * 3, rel=0.05)
    (alone,), failed = with_errors(told[:1]), Told(0.95, math.inf)
    assert alone.error == pytest.approx(least) and with_errors([failed]) == [failed]
    assert with_errors([*told, failed]) == [*sure, failed]


def test_one_bad_trial_leaves_the_others_errors_as_they_are():
    random = np.random.RandomState(0)
    hard = 1 + 0.3 * random.standard_normal(8)
    losses = [hard + 0.02 * random.standard_normal(8) + 0.2 * (p - 0.8) ** 2 for p in (0.2, 0.8)]
    told = [seen(p, *loss) for p, loss in zip((0.2, 0.8), losses, strict=True)]
    bad = seen(1.0, *(4 + 2.5 * random.standard_normal(8)))
    assert with_errors([*told, bad])[:2] == with_errors(told)


def test_losses_may_be_negative():
    told = with_errors([seen(0.1, -3.0, -4.0), seen(0.5, -3.5, -4.6)])
    assert all(point.error > 0.0 for point in told) and likely(told, seed=0) > 0.4
