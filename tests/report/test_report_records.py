"""Records read back, whole, cut or unreadable, and put together by their headers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from meta_lr.report import find_runs, read_run
from meta_lr.report.caveats import caveats
from meta_lr.report.groups import group_runs
from tests.report_runs import TOTAL, only, write_run


def test_a_run_reads_back_what_was_written(tmp_path):
    write_run(tmp_path / "run", search=3.0, search_cost_before=7.0, meta_training_cost=None)
    run = read_run(tmp_path / "run")
    assert run.finished and not run.diverged and run.num_steps == TOTAL and run.seconds == 2.5
    np.testing.assert_array_equal(run.steps.step, np.arange(TOTAL))
    np.testing.assert_allclose(run.steps.cost - run.steps.search_cost, 1 + np.arange(TOTAL))
    assert (run.cost, run.search_cost) == (TOTAL + 9.0, 9.0)
    assert run.header.search_cost_before == 7.0 and math.isnan(run.header.meta_training_cost)
    assert [e.accuracy for e in run.evaluations if e.split == "test"] == [0.9, 0.91]


@pytest.mark.parametrize("text, value", [("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf)])
def test_numbers_written_as_strings_read_back(tmp_path, text, value):
    path = write_run(tmp_path / "run")
    path.write_text(path.read_text().replace('"loss": 2.0,', f'"loss": "{text}",'))
    np.testing.assert_equal(read_run(tmp_path / "run").steps.loss[0], value)


def test_a_cut_last_line_is_left_out_wherever_it_is_cut(tmp_path):
    path = write_run(tmp_path / "run", ends=False)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for length in range(1, len(lines[-1]) - 1):
        path.write_bytes(whole[: len(whole) - length])
        run = read_run(tmp_path / "run")
        assert len(run.evaluations) == 7  # of eight
        assert run.status == "unfinished" and run.num_steps == TOTAL


def test_a_run_that_has_just_begun_is_passed_over(tmp_path):
    write_run(tmp_path / "done")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "records.jsonl").write_text('{"kind": "hea')
    assert [run.folder.name for run in find_runs(tmp_path)] == ["done"]
    with pytest.raises(ValueError, match="wrote nothing"):
        read_run(tmp_path / "begun")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('"format": 1', '"format": 2', "format 2, this version reads up to 1; install a newer"),
        ('"task": "digits", ', "", "lacks 'task'"),
        ('"kind": "header"', '"kind": "step"', "first must be a header"),
        ('"step": 0,', '"step": 0', "line 2 is damaged"),
        ('"step": 0,', '"step": "' + 999 * "x" + '",', r"is damaged .could not .*remove the run"),
        ('"versions": {', '"versions": 3, "v": {', "is damaged .*remove the run, or mend it"),
        ('"config": {', '"config": "x", "c": {', "is damaged .*remove the run, or mend it"),
    ],
)
def test_a_record_that_cannot_be_read_says_which_and_why(tmp_path, old, new, message):
    path = write_run(tmp_path / "run")
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        find_runs(tmp_path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).replace(str(path), "")) <= 300


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no records\.jsonl"):
        find_runs(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        find_runs(tmp_path / "nowhere")


def test_groups_follow_the_header_not_the_folders(tmp_path):
    for seed in (0, 1):
        for hidden in (20, 100):
            write_run(
                tmp_path / f"{hidden + seed:x}",
                method="learned",
                seed=seed,
                checkpoint="f00d",
                config={"net": {"hidden": hidden}, "seed": seed, "logger": {"id": seed * hidden}},
            )
        write_run(tmp_path / f"zz/{seed}", method="cosine", seed=seed)
        write_run(tmp_path / f"other{seed}", method="cosine", seed=seed, task="svhn")
    digits, svhn = group_runs(find_runs(tmp_path))
    assert (digits.title, svhn.task) == ("digits, MLP, sgd, 60 steps", "svhn")
    labels = ["learned (net.hidden=20)", "learned (net.hidden=100)", "cosine"]
    assert [group.label for group in digits.groups] == labels
    assert [[run.header.seed for run in group.runs] for group in digits.groups] == [[0, 1]] * 3


def test_labels_show_no_more_settings_than_needed(tmp_path):
    for name, peak, derived in (("a", 0.1, 1), ("b", 0.3, 3), ("c", 0.5, 5)):
        config = {"lr": {"peak": peak}, "z": {"derived": derived}, "same": [1, 2]}
        write_run(tmp_path / name, config=config)
    (problem,) = group_runs(find_runs(tmp_path))
    assert [g.label for g in problem.groups] == [f"cosine (lr.peak={p})" for p in (0.1, 0.3, 0.5)]


def test_an_average_makes_no_method_of_its_own_and_is_preferred(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"old-{seed}", seed=seed)  # from before there was the option
    write_run(tmp_path / "a", config={"lr": {"peak": 0.1}, "average": False})
    write_run(tmp_path / "b", config={"lr": {"peak": 0.1}, "average": True}, average=True)
    (problem,) = group_runs(find_runs(tmp_path))
    (group,) = problem.groups
    assert (group.label, len(group.left_out)) == ("cosine", 2)
    assert [run.header.average for run in group.runs] == [True, False]


def test_a_method_s_own_option_of_that_name_tells_methods_apart(tmp_path):
    for average in (True, False):
        write_run(tmp_path / str(average), config={"lr": {"average": average}, "average": False})
    (problem,) = group_runs(find_runs(tmp_path))
    labels = [f"cosine (lr.average={value})" for value in ("false", "true")]
    assert [group.label for group in problem.groups] == labels


def test_a_repeated_seed_counts_once_and_the_finished_run_wins(tmp_path):
    write_run(tmp_path / "a", ends=False, test=0.5)
    write_run(tmp_path / "b", test=0.8)
    analysis = only(tmp_path)
    assert analysis.methods[0].values("test_last") == [0.8]
    assert any("1 run left out" in text for text in caveats(analysis))
