"""The curves behind the figures, and what each method looks like in them."""

from __future__ import annotations

import math

import numpy as np

from meta_lr.report.curves import Curve, band, smooth
from meta_lr.report.looks import looks


def test_smoothing_is_a_trailing_mean_that_ends_at_the_first_bad_value():
    values = np.random.default_rng(0).normal(size=200)  # a window of 4
    expected = [values[max(0, i - 3) : i + 1].mean() for i in range(200)]
    np.testing.assert_allclose(smooth(values), expected, atol=1e-12)
    values[150] = np.nan
    assert np.isfinite(smooth(values)[:150]).all() and np.isnan(smooth(values)[150:]).all()


def test_the_band_is_the_mean_and_spread_as_far_as_all_runs_go():
    x = np.arange(5.0)
    long = Curve(np.arange(9.0), 2 * np.arange(9.0))
    found = band([Curve(x, x), long])
    assert found is not None
    np.testing.assert_allclose(found.x, x)
    np.testing.assert_allclose(found.mean, 1.5 * x)
    np.testing.assert_allclose(found.spread, x / math.sqrt(2))


def test_a_run_on_its_way_or_diverged_does_not_cut_the_mean_short():
    x = np.arange(5.0)
    whole = [Curve(x, x), Curve(x, 3 * x)]
    begun = Curve(x[:2], 100 * x[:2], finished=False)
    diverged = Curve(x[:3], 100 * x[:3], finished=False, diverged=True)
    for others in ([begun], [diverged], [begun, diverged]):
        found = band([*others, *whole])
        assert found is not None
        np.testing.assert_allclose(found.mean, 2 * x)
    found = band([begun, diverged])
    assert found is not None
    np.testing.assert_allclose(found.mean, begun.y)
    found = band([diverged])
    assert found is not None
    np.testing.assert_allclose(found.mean, diverged.y)


def test_a_methods_colour_does_not_depend_on_its_place():
    labels = [f"method {i}" for i in range(20)]
    found = looks(labels)
    assert looks(reversed(labels)) == found == looks([*labels, *labels])
    assert len(set(found.values())) == 20  # told apart by colour and dashes
    assert looks(["learned", "three_constants"])["three_constants"].dashes == "--"
