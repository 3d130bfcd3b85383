"""Paired differences: their intervals and tests, and what so many seeds allow one to say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from meta_lr.report import write_report
from meta_lr.report.comparison import compare, paired_interval, sign_flip_p
from tests.report_runs import methods, only, table, write_run


def test_the_interval_is_scipys():
    x = np.array([0.91, 0.93, 0.90, 0.95, 0.92])
    y = np.array([0.90, 0.91, 0.91, 0.92, 0.90])
    expected = stats.ttest_rel(x, y).confidence_interval(0.95)
    np.testing.assert_allclose(paired_interval(list(x - y)), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_exact_p_is_scipys(seed):
    d = np.random.default_rng(seed).normal(0.5, 1.0, 11)
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(list(d)) == pytest.approx(expected.pvalue, abs=1e-12)


def test_the_sampled_p_is_near_the_t_tests():
    d = np.random.default_rng(2).normal(0.3, 1.0, 40)
    assert sign_flip_p(list(d)) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)


@pytest.mark.parametrize(
    "n, shift, higher, verdict, has_p",
    [
        (3, 0.5, True, "too few seeds for a verdict", False),
        (9, 0.5, True, "too few seeds for a verdict", False),
        (10, 0.5, True, "better", True),
        (10, -0.5, True, "worse", True),
        (10, -0.5, False, "better", True),
        (10, 0.0, True, "no difference found", True),
    ],
)
def test_the_verdict_needs_ten_seeds_and_an_interval_off_zero(n, shift, higher, verdict, has_p):
    noise = np.linspace(-0.1, 0.1, n)
    a = {seed: 0.4 + shift + float(x) for seed, x in enumerate(noise)}
    b = dict.fromkeys(range(n), 0.4)
    comparison = compare(("a", a), ("b", b), higher_is_better=higher)
    assert comparison.verdict == verdict and (comparison.p is not None) == has_p
    assert comparison.mean == pytest.approx(shift, abs=1e-12)


def test_only_seeds_that_both_ran_are_paired():
    comparison = compare(
        ("a", {0: 1.0, 1: 2.0, 5: 9.0}), ("b", {1: 1.5, 0: 0.0, 7: 1.0}), higher_is_better=True
    )
    assert dict(comparison.differences) == {0: 1.0, 1: 0.5}


def test_an_infinite_loss_gives_no_interval_and_no_verdict():
    a = dict.fromkeys(range(12), 0.1)
    b = {**dict.fromkeys(range(12), 0.2), 3: math.inf}
    comparison = compare(("a", a), ("b", b), higher_is_better=False)
    assert comparison.verdict == "no interval" and comparison.p is None
    both = compare(("a", {0: math.inf}), ("b", {0: math.inf}), higher_is_better=False)
    assert both.mean == 0.0


def test_every_other_method_is_compared_with_the_reference(tmp_path):
    for method in ("cosine", "constant", "onecycle"):
        write_run(tmp_path / method, method=method)
    pairs = [(c.method, c.reference) for c in only(tmp_path).comparisons]
    assert pairs == [("cosine", "constant"), ("onecycle", "constant")]
    pairs = [(c.method, c.reference) for c in only(tmp_path, reference="cosine").comparisons]
    assert pairs == [("constant", "cosine"), ("onecycle", "cosine")]
    with pytest.raises(ValueError, match="no method is called 'cosin'; pass one of: constant, cos"):
        write_report(tmp_path, tmp_path / "out", reference="cosin")


def test_two_seeds_and_equal_differences_have_no_interval():
    assert all(map(math.isnan, paired_interval([0.01, 0.03])))
    assert all(map(math.isfinite, paired_interval([0.01, 0.03, 0.05])))
    for same in (0.0, 0.1 + 0.2):
        assert all(map(math.isnan, paired_interval([same] * 5)))
    # equal but for their last bits, as differences of decimal fractions are
    assert all(map(math.isnan, paired_interval([0.92 - 0.9, 0.91 - 0.89, 0.52 - 0.5])))


def test_ten_equal_differences_are_a_draw_only_at_zero():
    a, b = dict.fromkeys(range(10), 0.5), dict.fromkeys(range(10), 0.25)
    draw = compare(("a", a), ("b", a), higher_is_better=True)
    assert draw.verdict == "no difference found"
    assert compare(("a", a), ("b", b), higher_is_better=True).verdict == "no interval"


def test_few_seeds_show_each_difference_and_no_empty_column(tmp_path):
    methods(tmp_path / "two", {"learned": [0.9, 0.8], "cosine": [0.85, 0.83]})
    rows = table(only(tmp_path / "two"), "Paired differences")
    assert rows == {
        "learned - cosine": {
            **{"method - reference": "learned - cosine", "difference": "+1.00", "seeds": "2"},
            "each seed": "+5.00, -3.00",
        }
    }
    methods(tmp_path / "three", {"learned": [0.9, 0.8, 0.7], "cosine": [0.85, 0.83, 0.7]})
    row = table(only(tmp_path / "three"), "Paired differences")["learned - cosine"]
    low, high = paired_interval([0.05, -0.03, 0.0])
    assert row["95 % interval"] == f"{100 * low:+.2f} to {100 * high:+.2f}"
    assert "verdict" not in row and "p" not in row


def test_ten_seeds_show_the_test_and_not_each_seed(tmp_path):
    values = [0.8 + 0.01 * seed for seed in range(10)]
    methods(tmp_path, {"learned": values, "cosine": [0.7 + 0.001 * seed for seed in range(10)]})
    row = table(only(tmp_path), "Paired differences")["learned - cosine"]
    assert (row["p"], row["verdict"], row["seeds"]) == ("0.00195", "better", "10")
    assert "each seed" not in row
