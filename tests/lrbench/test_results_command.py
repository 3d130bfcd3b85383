"""`meta-lr results`: what is taken in, listed and handed out."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from meta_lr.cli.results_table import table
from meta_lr.lrbench.listing import COLUMNS, listed
from meta_lr.lrbench.metrics import SCALES
from meta_lr.lrbench.store import Store
from tests.commands import SMALL, outcome, own_place
from tests.meta_runs import write_meta_run
from tests.report_runs import write_run
from tests.stores import result


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with three stored results; one diverged, one is of another task."""
    monkeypatch.chdir(tmp_path)
    tri, fix = "lrPolicy_TRI+k0_0.1+k1_1.0+l_100", "lrPolicy_FIX+k0_0.1"
    values = {"val_accuracy": 0.9, "test_accuracy": 0.875, "test_loss": 0.5, "train_loss": 0.25}
    curves = [[[10, 15, 0.8, 0.5], [20, 30, 0.9, 0.25]], [[10, 10, 0.7, 0.5], [20, 20, 0.8, 0.5]]]
    with Store(tmp_path / "runs" / "results.sqlite") as store:
        results = [
            result(0, policy=tri, curve=curves[0], **values),
            result(0, policy=fix, curve=curves[1], **(values | {"val_accuracy": 0.8})),
            result(1, policy=fix, curve=curves[0], status="diverged at step 30", steps=30),
            result(0, task="text", curve=[[10, 10, None, 2.0]], val_loss=2.0, test_loss=2.5),
        ]
        store.put(results)
    return tmp_path


def rows(capsys, *arguments):
    """What a list comes to, as CSV says it; JSON says the same."""
    code, out, err = outcome(capsys, "results", *arguments, "--csv")
    assert (code, err) == (0, "")
    found = list(csv.DictReader(out.splitlines()))
    _, out, _ = outcome(capsys, "results", *arguments, "--json")
    plain = [{k: "" if v is None else str(v) for k, v in row.items()} for row in json.loads(out)]
    assert plain == found and tuple(found[0]) == COLUMNS
    return found


def column(found, name):
    return [row[name] for row in found]


def test_the_best_on_val_comes_first_in_each_problem(place, capsys):
    found = rows(capsys)
    assert column(found, "task") == ["digits"] * 3 + ["text"]
    assert column(found, "val_accuracy") == ["0.9", "0.8", "", ""]
    assert column(found, "loss_difference") == ["0.25", "0.25", "", ""]


def test_a_target_sorts_by_the_steps_to_it(place, capsys):
    found = rows(capsys, "--target", "0.8", "--task", "digits")
    assert column(found, "steps_to_target") == ["10", "20", ""]
    assert column(found, "cost_to_target") == ["15.0", "20.0", ""]
    assert column(rows(capsys, "--target", "0.9"), "steps_to_target") == ["20", "", "", ""]


def test_filters_leave_what_was_asked_for(place, capsys):
    assert column(rows(capsys, "--policy", "tri"), "policy") == ["lrPolicy_TRI+k0_0.1+k1_1.0+l_100"]
    assert column(rows(capsys, "--task", "text", "--model", "mlp"), "task") == ["text"]
    assert len(rows(capsys, "--optimizer", "sgd")) == 4


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("cost", ["FIX", "TRI"]),
        ("test_accuracy", ["TRI", "FIX"]),
        ("test_class_spread", ["FIX", "TRI"]),
        ("test_loss", ["TRI", "FIX"]),
    ],
)
def test_a_list_is_sorted_by_any_column_the_best_first(tmp_path, capsys, by, expected):
    store = tmp_path / "a.sqlite"
    facts = {"test_loss": 0.1, "test_accuracy": 0.9, "cost": 50.0, "test_class_spread": 0.2}
    with Store(store) as opened:
        opened.put([result(policy="TRI", **facts)])
        worse = {"test_loss": None, "test_accuracy": 0.8, "cost": 40.0, "test_class_spread": 0.1}
        opened.put([result(policy="FIX", **worse)])
    assert column(rows(capsys, "--store", str(store), "--sort", by), "policy") == expected


def test_robustness_is_that_of_the_run_among_its_other_base_rates():
    accuracies = dict(zip(SCALES, (0.9, 0.5, 0.9, None, 0.7), strict=True))
    family = [
        result(scale=scale, val_accuracy=value, status="finished" if value else "diverged at 3")
        for scale, value in accuracies.items()
    ]
    other = result(1, val_accuracy=0.4)
    found = {(row["scale"], row["seed"]): row["robustness"] for row in listed([*family, other])}
    assert found.pop((1.0, 0)) == pytest.approx((0.5 + 0.9 + 0.0 + 0.7) / 4 - 0.9)
    assert set(found.values()) == {None}
    assert all(row["robustness"] is None for row in listed(family[:-1]))
    diverged = [result(scale=scale, status="diverged at 3") for scale in SCALES]
    assert all(row["robustness"] is None for row in listed(diverged))


def test_the_table_tells_once_what_all_rows_share(place, capsys):
    code, out, _ = outcome(capsys, "results", "--full", "--task", "digits", "--target", "0.9")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "3 results, digits, mlp, sgd, 100 steps"
    assert lines[2].split() == "steps to cost to loss".split()
    names = "policy seed status cost target target val % test % test - train".split()
    assert lines[3].split() == names
    first = "lrPolicy_TRI+k0_0.1+k1_1.0+l_100 0 finished 100 20 30 90.00 87.50 0.2500".split()
    assert lines[5].split() == first
    assert "diverged at step 30" in lines[7] and lines[7].split()[-5:] == ["-"] * 5


def test_the_table_has_100_columns_unless_it_is_shown_in_full(place, capsys):
    short, full = (outcome(capsys, "results", *flags)[1] for flags in ([], ["--full"]))
    assert max(map(len, short.splitlines()[:-1])) <= 100 < max(map(len, full.splitlines()))
    assert "no room" not in full


def test_a_narrow_table_keeps_its_numbers_whole_and_says_what_has_no_room():
    facts = {"val_accuracy": 0.5, "test_accuracy": 0.12345, "test_confidence": 0.75}
    long = "lrPolicy_SINEXP+k0_0.0001+k1_0.006+l_2000+gamma_0.99994"
    found = listed([result(policy=long, **facts)])
    wide, narrow, least = (table(found, width=width) for width in (200, 60, 1))
    assert long in wide and "0.7500" in wide and "no room" not in wide
    lines = narrow.splitlines()
    assert max(map(len, lines[:-1])) <= 60 and "12.35" in narrow and "0.7500" not in narrow
    assert lines[-1] == "no room for confidence; --full and --csv have all columns"
    assert long in "".join(line.split()[0] for line in narrow.splitlines()[4:-2])
    assert "12.35" in least


def test_a_constructor_is_cut_short_in_the_table_and_an_lrbench_policy_is_not(tmp_path, capsys):
    network = f"OnlineMLRSNet(net=LSTM(hidden=50, bottleneck=0), {'option=0.5, ' * 200})"
    lrbench = "-".join(["lrPolicy_FIX+k0_0.1"] * 9) + "-AT-1+2+3+4+5+6+7+8"
    store = tmp_path / "a.sqlite"
    with Store(store) as opened:
        opened.put([result(policy=policy) for policy in (network, lrbench)])
    out = outcome(capsys, "results", "--store", str(store), "--full")[1]
    assert "OnlineMLRSNet(net=LSTM(hidden=50, bottleneck=0), ... " in out and lrbench in out
    assert out.endswith("\npolicies that end in ... are whole in --csv\n")
    assert max(map(len, out.splitlines())) < 300
    assert {row["policy"] for row in rows(capsys, "--store", str(store))} == {network, lrbench}
    said = outcome(capsys, "results", "--store", str(store), "--policy", "TRI")[2]
    assert "it has OnlineMLRSNet(net=LSTM(hidden=50, bottleneck=0), ..., lrPolicy_FIX" in said


def test_runs_are_taken_in_once_they_have_ended(tmp_path, capsys, monkeypatch):
    own_place(tmp_path, monkeypatch)
    assert outcome(capsys, "train", *SMALL, "seed=3")[0] == 0
    write_run(tmp_path / "runs" / "other", ends=False)
    write_run(tmp_path / "runs" / "sweep 1", command="range-test")
    write_run(tmp_path / "runs" / "sweep 2", command="range-test")
    write_meta_run(tmp_path / "runs" / "learned")
    told = (
        "runs/results.sqlite: 1 result read, {} new; passed over: 1 episodic meta-training, "
        "2 range tests, 1 unfinished run (a result is one training run that has ended)\n"
    )
    assert outcome(capsys, "results", "import", "runs") == (0, told.format(1), "")
    assert outcome(capsys, "results", "import", "runs") == (0, told.format(0), "")
    (row,) = rows(capsys)
    assert (row["task"], row["seed"], row["total_steps"]) == ("quadratic", "3", "30")
    assert row["policy"] == "Constant(peak=0.1)" and row["folder"].startswith("runs/train/")


def test_nothing_to_take_in_makes_no_store(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "other", ends=False)
    code, out, _ = outcome(capsys, "results", "import", "runs")
    assert code == 0 and out.startswith("runs/results.sqlite: 0 results read, 0 new; passed over")
    assert not (tmp_path / "runs" / "results.sqlite").exists()


@pytest.mark.parametrize("name", ["all.csv", "all.json"])
def test_what_is_exported_can_be_imported_elsewhere(place, capsys, name):
    assert outcome(capsys, "results", "export", name) == (0, f"{name}: 4 results\n", "")
    code, out, _ = outcome(capsys, "results", "import", name, name, "--store", "b.sqlite")
    assert (code, out) == (0, "b.sqlite: 8 results read, 4 new\n")
    with Store(place / "b.sqlite") as copy, Store(place / "runs" / "results.sqlite") as first:
        assert copy.find() == first.find()


def test_an_export_holds_what_was_asked_for(place, capsys):
    assert outcome(capsys, "results", "--task", "text", "export", "text.csv")[0] == 0
    shutil.rmtree(place / "runs")
    assert outcome(capsys, "results", "import", "text.csv")[0] == 0
    assert column(rows(capsys), "task") == ["text"]


def test_help_shows_examples_and_the_place_of_the_store(capsys):
    code, out, _ = outcome(capsys, "results", "--help")
    assert code == 0 and "meta-lr results import runs" in out
    assert "(default: runs/results.sqlite)" in out
    code, out, _ = outcome(capsys, "results", "import", "--help")
    assert code == 0 and "PATH" in out and "--store FILE" in out
