"""What a run is worth: at equal steps and cost, diverged, unfinished, and until a target."""

from __future__ import annotations

import math

import pytest

from meta_lr.report import find_runs
from meta_lr.report.analysis import check_target
from meta_lr.report.caveats import caveats
from meta_lr.report.groups import group_runs
from meta_lr.report.methods import rank
from meta_lr.report.outcomes import ACCURACY, choose_metric, common_limits, outcome
from meta_lr.report.targets import profile
from tests.report_runs import TOTAL, only, write_run


def test_equal_cost_and_equal_steps_differ_where_a_run_searched(tmp_path):
    write_run(tmp_path / "a", method="cosine", test=0.9)
    write_run(tmp_path / "b", method="autolr", test=0.9, search=5.0)
    analysis = only(tmp_path)
    assert (analysis.limits.steps, analysis.limits.cost) == (60, 60.0)
    searched, plain = (method.outcomes[0] for method in analysis.methods)
    assert (plain.val_at_steps, plain.val_at_cost, plain.test_at_cost) == (0.9, 0.9, 0.9)
    assert searched.val_at_steps == 0.9 and searched.test_at_steps == 0.9
    # cost after 40 steps is 40 + 2 * 5, after 50 steps 50 + 3 * 5 > 60
    assert searched.val_at_cost == pytest.approx(0.9 * 40 / 60)
    assert math.isnan(searched.test_at_cost)
    assert (searched.cost, searched.search_cost) == (75.0, 15.0)


def test_a_diverged_run_is_the_worst_everywhere(tmp_path):
    write_run(tmp_path / "a", method="cosine", seed=0, test=0.9)
    write_run(tmp_path / "b", method="cosine", seed=1, test=0.8)
    write_run(tmp_path / "c", method="onecycle", seed=0, test=0.99, diverges_at=55)
    write_run(tmp_path / "d", method="onecycle", seed=1, test=0.9)
    analysis = only(tmp_path, target=0.5)
    cosine, onecycle = analysis.methods
    bad = onecycle.outcomes[0]
    assert (bad.test_last, bad.test_best, bad.val, bad.val_at_cost) == (0.0, 0.0, 0.0, 0.0)
    assert bad.test_loss == math.inf and (bad.num_steps, bad.cost) == (55, 56.0)
    assert onecycle.cost_to_target[0] == math.inf and math.isfinite(onecycle.cost_to_target[1])
    assert dict(analysis.comparisons[0].differences) == pytest.approx({0: -0.9, 1: 0.1})
    assert (onecycle.count("diverged"), cosine.count("diverged")) == (1, 0)
    assert analysis.limits.steps == TOTAL  # a diverged run does not shorten the others
    assert any("1 run diverged" in text for text in caveats(analysis))


def test_an_unfinished_run_is_in_no_mean(tmp_path):
    write_run(tmp_path / "a", seed=0, test=0.9)
    path = write_run(tmp_path / "b", seed=1, test=0.3, ends=False)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:30]))
    analysis = only(tmp_path)
    (method,) = analysis.methods
    assert method.values("val") == [0.9] and analysis.limits.steps == TOTAL
    assert method.count("unfinished") == 1
    assert any("1 run not finished" in text for text in caveats(analysis))


def test_common_limits_are_those_of_finished_runs(tmp_path):
    write_run(tmp_path / "a", diverges_at=5)
    write_run(tmp_path / "b", seed=1, search=2.0)
    runs = find_runs(tmp_path)
    limits = common_limits(runs)
    assert (limits.steps, limits.cost) == (60, 66.0) and choose_metric(runs) is ACCURACY
    assert outcome(runs[1], ACCURACY, limits).test_at_cost == 0.9


def test_time_to_target_is_the_baselines_unless_given(tmp_path):
    write_run(tmp_path / "a", method="constant", test=0.6)
    write_run(tmp_path / "b", method="autolr", test=0.9, search=5.0)
    autolr, constant = only(tmp_path).methods
    assert constant.steps_to_target == {0: 60.0} and autolr.steps_to_target == {0: 40.0}
    assert autolr.cost_to_target == {0: 50.0}
    assert only(tmp_path).baseline == "constant"
    autolr, constant = only(tmp_path, target=0.7).methods
    assert constant.steps_to_target == {0: math.inf} and autolr.steps_to_target == {0: 50.0}


def test_profiles_follow_dolan_and_more():
    problems = [
        {"a": {0: 10.0, 1: 10.0}, "b": {0: 20.0, 1: 5.0}},
        {"a": {0: 30.0}, "b": {0: math.inf}, "c": {0: 1.0}},  # c ran on one problem only
        {"a": {0: math.inf}, "b": {0: math.inf}},
    ]
    found = profile(problems)
    assert found is not None and found.num_pairs == 4
    assert [found.share_within("a", ratio) for ratio in (1, 1.5, 2, 4)] == [0.5, 0.5, 0.75, 0.75]
    assert [found.share_within("b", ratio) for ratio in (1, 1.5, 2, 4)] == [0.25, 0.25, 0.5, 0.5]
    assert list(found.shares) == ["a", "b"]
    assert list(profile([{"b": t["b"], "a": t["a"]} for t in problems]).shares) == ["a", "b"]
    assert profile(problems[:1]) is None


@pytest.mark.parametrize("target", [95.0, 1.01, 0.0, -0.5, float("nan"), float("inf")])
def test_a_target_that_no_accuracy_can_have_is_refused(tmp_path, target):
    write_run(tmp_path / "a")
    problems = group_runs(find_runs(tmp_path))
    with pytest.raises(ValueError, match=r"fraction .* \(95 % is 0\.95\)|no finite number"):
        check_target(problems, target)
    check_target(problems, 1.0)
    check_target(problems, None)


def test_a_loss_may_be_any_finite_target(tmp_path):
    write_run(tmp_path / "a", accuracy=False)
    problems = group_runs(find_runs(tmp_path))
    check_target(problems, 95.0)
    with pytest.raises(ValueError, match="the target inf is no finite number"):
        check_target(problems, math.inf)


def test_equal_means_share_their_rank_and_those_still_running_come_last(tmp_path):
    write_run(tmp_path / "early", method="early", test=0.99, ends=False)
    path = tmp_path / "early" / "records.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:30]))
    for method, value in (("a", 0.7), ("b", 0.9), ("c", 0.7), ("d", 0.5)):
        write_run(tmp_path / method, method=method, test=value)
    analysis = only(tmp_path)
    ranks = {m.label: rank(m, analysis.methods, analysis.metric) for m in analysis.methods}
    assert list(ranks.items()) == [("b", 1), ("a", 2), ("c", 2), ("d", 4), ("early", 5)]


def test_of_losses_the_lowest_is_first(tmp_path):
    for method, value in (("a", 0.7), ("b", 0.9)):  # the loss is 1 - value
        write_run(tmp_path / method, method=method, test=value, accuracy=False)
    write_run(tmp_path / "c", method="c", accuracy=False, diverges_at=10)
    analysis = only(tmp_path)
    assert [method.label for method in analysis.methods] == ["b", "a", "c"]
    assert [group.label for group in analysis.problem.groups] == ["b", "a", "c"]
