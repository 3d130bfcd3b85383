"""The tables: best mean first, no column that says nothing, and the same numbers as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from meta_lr.report.looks import looks
from meta_lr.report.outcome_table import outcome_table
from meta_lr.report.page import problem_part
from meta_lr.report.spreadsheet import to_csv
from tests.report_runs import methods, only, table, write_run


def cells(folder: Path) -> dict[str, dict[str, str]]:
    return {row["method"]: row for row in csv.DictReader(io.StringIO(to_csv([only(folder)])))}


def text_of(analysis, root):
    return problem_part(analysis, looks(m.label for m in analysis.methods), root).markdown()


def test_the_csv_holds_the_numbers_of_the_runs(tmp_path):
    learned, cosine = [0.90, 0.92, 0.97], [0.91, 0.90, 0.93]
    methods(tmp_path, {"learned": learned, "cosine": cosine}, search_cost_before=40.0)
    rows = cells(tmp_path)
    for name, values in (("learned", learned), ("cosine", cosine)):
        row = rows[name]
        assert float(row["test_last_mean"]) == pytest.approx(np.mean(values))
        assert float(row["test_last_sd"]) == pytest.approx(np.std(values, ddof=1))
        assert float(row["test_best_mean"]) == pytest.approx(np.mean(values) + 0.01)
        assert float(row["val_mean"]) == pytest.approx(np.mean(values))
        assert float(row["test_loss_mean"]) == pytest.approx(1 - np.mean(values))
        by_seed = dict(pair.split(":") for pair in row["test_last_by_seed"].split())
        assert [float(by_seed[str(seed)]) for seed in range(3)] == values
    assert [rows[name]["tuning_cost_mean"] for name in ("learned", "cosine")] == ["40.0", "0.0"]
    compared = rows["learned"]
    interval = stats.ttest_rel(learned, cosine).confidence_interval()
    assert compared["reference"] == "cosine" and compared["p"] == ""
    assert float(compared["difference"]) == pytest.approx(np.mean(learned) - np.mean(cosine))
    assert float(compared["low"]) == pytest.approx(interval.low)
    assert float(compared["high"]) == pytest.approx(interval.high)


def test_an_average_has_its_own_column_where_there_is_one(tmp_path):
    methods(tmp_path / "a", {"learned": [0.90, 0.94]}, average=True)
    write_run(tmp_path / "b", method="cosine", test=0.8)
    write_run(tmp_path / "c", method="constant", diverges_at=5, average=True)
    analysis = only(tmp_path)
    shown = table(analysis, "Outcome")
    assert list(shown["cosine"])[2:5] == ["test accuracy %", "at best val", "at average"]
    found = {name: row["at average"] for name, row in shown.items()}
    assert found == {"learned": "94.00 ± 2.83", "cosine": "-", "constant": "0.00"}
    assert "At average: the test value of an average of the last weights." in text_of(
        analysis, tmp_path
    )
    rows = cells(tmp_path)
    assert float(rows["learned"]["test_average_mean"]) == pytest.approx(0.94)
    assert rows["cosine"]["test_average_mean"] == ""
    for row in rows.values():  # the average's own value on val is no part of the curve
        assert float(row["val_mean"]) == pytest.approx(float(row["test_last_mean"]))


def test_without_an_average_a_diverged_run_makes_no_column_for_it(tmp_path):
    write_run(tmp_path / "a", diverges_at=5)
    analysis = only(tmp_path)
    assert "at average" not in table(analysis, "Outcome")["cosine"]
    assert "At average" not in text_of(analysis, tmp_path)


def test_a_task_without_accuracy_is_compared_by_loss(tmp_path):
    write_run(tmp_path / "a", method="cosine", test=0.9, accuracy=False)
    write_run(tmp_path / "b", method="constant", test=0.8, accuracy=False)
    analysis = only(tmp_path)
    assert analysis.metric.name == "loss"
    assert analysis.comparisons[0].mean == pytest.approx(-0.1)
    text = text_of(analysis, tmp_path)
    assert "test loss" in text and "accuracy" not in text


def test_the_csv_holds_peaks_and_whether_they_were_tuned(tmp_path):
    for method, tuned in (("a", True), ("b", False), ("c", None)):
        write_run(tmp_path / method, method=method, peak=0.2, tuned=tuned)
    write_run(tmp_path / "old", method="old")
    found = {name: (row["peak"], row["tuned"]) for name, row in cells(tmp_path).items()}
    assert found == {"a": ("0.2", "true"), "b": ("0.2", "false"), "c": ("0.2", ""), "old": ("", "")}


def test_every_table_has_the_best_mean_first(tmp_path):
    methods(tmp_path, {"learned": [0.7, 0.8], "cosine": [0.9, 0.85], "constant": [0.6, 0.6]})
    analysis = only(tmp_path)
    for caption in ("Outcome", "Every run", "Validation, loss and time", "Time to target"):
        assert list(table(analysis, caption)) == ["cosine", "learned", "constant"]
    assert list(table(analysis, "Paired differences")) == ["learned - cosine", "learned - constant"]


def test_the_outcome_table_says_what_it_cost(tmp_path):
    write_run(tmp_path / "a", method="autolr", search=5.0, test=0.8)
    write_run(tmp_path / "b", method="cosine", search_cost_before=180.0)
    write_run(tmp_path / "c", method="learned", checkpoint="f00d", meta_training_cost=90.0)
    rows = table(only(tmp_path), "Outcome")
    names = ("cost", "search", "tuning", "meta-training", "break-even")
    assert [rows["autolr"][name] for name in names] == ["75", "15", "0", "-", "-"]
    assert [rows["cosine"][name] for name in names] == ["60", "0", "180", "-", "-"]
    assert [rows["learned"][name] for name in names] == ["60", "0", "0", "90", "1.5"]
    assert (
        "Break-even: meta-training divided by the cost of a run"
        in outcome_table(only(tmp_path)).note
    )


def test_the_time_of_the_search_is_told_where_something_was_searched(tmp_path):
    write_run(tmp_path / "searched" / "a", method="autolr", search=5.0)
    write_run(tmp_path / "searched" / "b", method="cosine")
    rows = table(only(tmp_path / "searched"), "Validation, loss and time")
    names = ("steps", "seconds", "of it search")
    assert [rows["autolr"][name] for name in names] == ["60", "2.5", "1.5"]
    assert [rows["cosine"][name] for name in names] == ["60", "2.5", "0"]
    write_run(tmp_path / "plain" / "b", method="cosine")
    plain = table(only(tmp_path / "plain"), "Validation, loss and time")["cosine"]
    assert plain["seconds"] == "2.5" and "of it search" not in plain


def test_columns_without_anything_to_say_are_left_out(tmp_path):
    methods(tmp_path, {"cosine": [0.9, 0.8], "constant": [0.7, 0.7]})
    analysis = only(tmp_path)
    assert not {"runs", "peak", "meta-training"} & set(table(analysis, "Outcome")["cosine"])
    assert "reak-even" not in outcome_table(analysis).note


def test_n_counts_the_runs_behind_the_mean(tmp_path):
    methods(tmp_path, {"cosine": [0.9, 0.8]})
    write_run(tmp_path / "c", method="cosine", seed=2, diverges_at=50)
    write_run(tmp_path / "d", method="cosine", seed=3, ends=False)
    write_run(tmp_path / "e", method="constant", test=0.5)
    rows = table(only(tmp_path), "Outcome")
    assert (rows["cosine"]["n"], rows["cosine"]["runs"]) == ("3", "1 diverged, 1 unfinished")
    assert rows["cosine"]["test accuracy %"].startswith(f"{100 * (0.9 + 0.8) / 3:.2f}")
    assert rows["constant"]["runs"] == "finished"


def test_peaks_stand_in_a_column_where_they_were_recorded(tmp_path):
    write_run(tmp_path / "a", method="learned", checkpoint="f00d", peak=0.2)
    write_run(tmp_path / "b", method="cosine", peak=0.05)
    write_run(tmp_path / "c", method="three_constants", peak=None)
    rows = table(only(tmp_path), "Outcome")
    peaks = {name: row["peak"] for name, row in rows.items()}
    assert peaks == {"learned": "0.2", "cosine": "0.05", "three_constants": "-"}


def test_both_views_are_one_where_nothing_was_searched(tmp_path):
    methods(tmp_path / "plain", {"cosine": [0.9], "constant": [0.8]})
    plain = only(tmp_path / "plain")
    assert table(plain, "Equal steps and equal cost") == {}
    assert "the comparisons at equal steps and at equal cost coincide" in outcome_table(plain).note
    assert "cost" not in table(plain, "Time to target")["cosine"]
    methods(tmp_path / "searched", {"cosine": [0.9], "constant": [0.8]})
    write_run(tmp_path / "searched" / "s", method="autolr", search=5.0)
    searched = only(tmp_path / "searched")
    views = table(searched, "Equal steps and equal cost")["autolr"]
    assert list(views)[1:] == ["val, 60 steps", "test, 60 steps", "val, cost 60", "test, cost 60"]
    assert "coincide" not in outcome_table(searched).note
    assert table(searched, "Time to target")["autolr"]["cost"] == "75"


def test_runs_on_their_way_are_compared_at_equal_steps(tmp_path):
    for name, length in (("cosine", 30), ("constant", 50)):
        path = write_run(tmp_path / name, method=name, ends=False)
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:length]))
    rows = table(only(tmp_path), "Equal steps and equal cost")
    assert list(rows["cosine"]) == ["method", "val, 27 steps", "test, 27 steps"]
    assert rows["cosine"]["val, 27 steps"] == rows["constant"]["val, 27 steps"] == "30.00"
