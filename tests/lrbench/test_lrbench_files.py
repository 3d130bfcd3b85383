"""Results in files: CSV and JSON both ways, and what a run's folder comes to."""

from __future__ import annotations

import csv
import json

import pytest

from meta_lr.lrbench.exchange import read, to_csv, to_json, write
from meta_lr.lrbench.folders import result_of, run_folders, setting
from meta_lr.lrbench.metrics import SCALES, Point
from meta_lr.lrbench.robust import Scaled
from meta_lr.lrbench.scored import Scored
from meta_lr.methods.basic import Constant, Cosine
from meta_lr.records.reader import NAME, read_rows
from meta_lr.training.loop import train
from tests.lrbench.test_lrbench_metrics import small
from tests.report_runs import write_run
from tests.short_runs import SGD
from tests.stores import result

HOSTILE = ["", " a, b ", 'say "no"', "two\nlines\r\n", "nan", "1e5", "None", "\u03b7 = 0.1", "=1+1"]
RESULTS = [result(seed, policy=text, folder=text) for seed, text in enumerate(HOSTILE)] + [
    result(90, scale=1e-300, cost=0.1 + 0.2, val_loss=-1 / 3, test_top5=0.0, seconds=1e22),
    result(91, curve=[Point(step, step / 3, None, 1e-5) for step in range(5_000)]),
    result(92, curve=[]),
]


@pytest.mark.parametrize("name", ["all.csv", "all.json", "below/ALL.CSV"])
def test_what_is_written_is_read_again(tmp_path, name):
    path = tmp_path / name
    write(RESULTS, path)
    assert read(path) == RESULTS
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert csv.field_size_limit() == 131_072


def test_the_files_are_plain_csv_and_json():
    (row,) = csv.DictReader(to_csv([result(3, val_loss=0.25)]).splitlines())
    assert (row["seed"], row["val_loss"], row["test_loss"]) == ("3", "0.25", "")
    content = json.loads(to_json([result(3)]), parse_constant=pytest.fail)
    assert content["format"] == 1 and content["results"][0]["curve"][0] == [10, 10.5, 0.1, 0.1]


def test_a_table_made_by_hand_needs_no_more_than_what_tells_the_run(tmp_path):
    path = tmp_path / "mine.csv"
    head = "task,model,optimizer,policy,seed,total_steps,status,steps,cost,test_accuracy\n"
    path.write_text("\ufeff" + head + "mnist,lenet,sgd,INV,1,9,finished,9,9,0.99\n", "utf-8")
    (found,) = read(path)
    assert (found.policy, found.test_accuracy, found.scale) == ("INV", 0.99, 1.0)


ONE = to_csv([result()])
LACKING = ONE.replace("seed", "seeds", 1)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "", r"a\.txt is neither \.csv nor \.json; name the file so"),
        ("a.csv", LACKING, r"row 1 has seeds, which is no field of a result; needed are at least "),
        ("a.csv", "task,model\na,b\n", r"row 1 lacks optimizer of a result; needed are"),
        (
            "a.csv",
            ONE.replace(",0,100,", ",x,100,"),
            r"row 1: seed is 'x'; a whole number of 64 bits",
        ),
        (
            "a.csv",
            ONE.replace(",0,100,", ",,100,"),
            r"row 1: seed is None; a whole number of 64 bits",
        ),
        ("a.csv", ONE.replace("[[10", "[[[10"), "row 1: curve is no list of"),
        ("a.csv", ONE.replace("[[10", "[1, [10"), "row 1: curve is no list of"),
        ("a.csv", ONE.rstrip("\n") + ',"', r"is damaged, or no CSV \(unexpected end of data\)"),
        ("a.csv", ONE.rstrip("\n") + ",1", "row 1 has None, which is no field"),
        ("a.csv", "\udcff", r"is damaged, or no CSV \(.*utf-8"),
        ("a.json", "[1", r"is damaged, or no JSON \(.*column"),
        ("a.json", "[]", r'holds no results; needed is \{"format": 1, "results": \[\.\.\.\]\}'),
        ("a.json", '{"format": 2, "results": []}', "has format 2, this meta_lr reads 1; install"),
        ("a.json", '{"results": [{"task": 3}]}', "result 1 lacks model of a result"),
        ("a.json", to_json([result()]).replace('"digits"', "3"), "task is 3; a text is needed"),
        ("a.json", "[" * 50_000, "is damaged, or no JSON .it is nested too deeply"),
        ("a.json", '{"format": ' + "9" * 5000, "is damaged, or no JSON .*5000 digits"),
        ("a.json", '{"results": [[1]]}', "result 1 is no object with the fields of a result"),
        ("a.csv", ONE.replace("[[10", "[" * 50_000), "row 1: curve is no list of"),
    ],
    ids=range(19),
)
def test_a_file_that_holds_something_else_is_refused(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=said) as raised:
        read(path)
    assert str(path) in str(raised.value)


def test_a_finished_run_comes_to_what_its_record_says(tmp_path):
    header = {"policy": "lrPolicy_FIX+k0_0.2", "scale": 0.5, "model": "mlp"}
    options = {"total_steps": 30, "eval_every": 10, "folder": tmp_path, "header": header, "seed": 4}
    outcome = train(Scored(small()), SGD, Scaled(Constant(0.2), 0.5), **options)
    found = result_of(tmp_path)
    assert found.key == (
        *("digits", "mlp", "sgd_momentum", "lrPolicy_FIX+k0_0.2"),
        *(0.5, 4, 30, ""),
    )
    assert (found.status, found.steps, found.cost) == ("finished", 30, 30.0)
    for split, values in (("val", outcome.val), ("test", outcome.test["last"])):
        assert {name: getattr(found, f"{split}_{name}") for name in values} == values
    assert found.test_accuracy_best == outcome.test["best"]["accuracy"]
    rows = read_rows(tmp_path)
    last_pass = [row["loss"] for row in rows if row["kind"] == "step"][-10:]
    assert rows[0]["steps_per_epoch"] == 10
    assert found.train_loss == pytest.approx(sum(last_pass) / 10)
    assert [point[:2] for point in found.curve] == [(10, 10.0), (20, 20.0), (30, 30.0)]
    assert found.curve[-1][2:] == (outcome.val["accuracy"], outcome.val["loss"])
    assert found.folder == tmp_path.as_posix() and found.ended_at.endswith("+00:00")


def test_the_controller_stands_for_the_policy_where_none_is_told(tmp_path):
    train(small(), SGD, Cosine(0.1), total_steps=10, folder=tmp_path)
    found = result_of(tmp_path)
    assert found.policy == "Cosine(peak=0.1, floor=0.0)" and found.scale == SCALES[0]
    assert found.val_accuracy is not None and found.val_confidence is None


def test_of_a_diverged_run_nothing_counts_but_its_curve(tmp_path):
    write_run(tmp_path / "a", diverges_at=35, steps_per_epoch=10, controller="C")
    found = result_of(tmp_path / "a")
    assert found.diverged and found.steps == 35 and len(found.curve) == 3
    assert found.val_accuracy is None and found.train_loss is None and found.test_loss is None
    assert found.to_target(0.1) is None


def test_a_run_without_an_end_and_a_record_of_many_runs_come_to_nothing(tmp_path):
    facts = {"steps_per_epoch": 10, "controller": "C"}
    write_run(tmp_path / "going on", ends=False, **facts)
    write_run(tmp_path / "many runs", plan={}, **facts)
    write_run(tmp_path / "just begun", **facts).write_text("")
    assert [result_of(folder) for folder in run_folders(tmp_path)] == [None] * 3


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace('"kind"', "", 3), ", line 1 is damaged"),
        (lambda text: text.replace("\n", "\n[1]\n", 2), ", line 2 is damaged"),
        (lambda text: text.replace('"controller"', '"c"'), " lacks 'controller'"),
        (
            lambda text: text.replace('"steps_per_epoch": 10', '"steps_per_epoch": "x"'),
            " is damaged",
        ),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, damage, said):
    record = write_run(tmp_path / "a", steps_per_epoch=10, controller="C")
    record.write_text(damage(record.read_text()))
    with pytest.raises(ValueError, match=rf"{NAME}{said}.*remove the run, or mend it"):
        result_of(tmp_path / "a")


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"no {NAME} at or below"):
        run_folders(tmp_path)


def test_the_setting_is_what_the_config_says_of_the_problem():
    task = {"batch_size": 64, "seed": 3, "model": {"hidden": [16], "seed": 1}}
    config = {"task": task, "optimizer": {"momentum": 0.9}, "clip": None, "lr": 1, "epochs": 3}
    same = {**config, "task": {**task, "seed": 4}, "lr": 2, "epochs": 5, "seed": 9}
    assert setting({}) == setting({"lr": 1}) == ""
    assert len(setting(config)) == 8 and setting(same) == setting(config)
    assert len({setting(config, data) for data in (None, "9 images", "8 images")}) == 3
    for other in ({"task": {**task, "batch_size": 32}}, {"optimizer": {}}, {"clip": 1.0}):
        assert setting({**config, **other}) != setting(config)
