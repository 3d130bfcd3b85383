"""Checkpoints that find their own learning rate in `train`, `transfer` and `report`."""

from pathlib import Path

import pytest

from meta_lr.records.reader import read_record, read_rows
from meta_lr.report.html import document
from meta_lr.report.looks import looks
from meta_lr.report.page import problem_part
from meta_lr.report.sections import event_table, problem_tables
from tests.commands import outcome, own_place, runs, write_self_tuning
from tests.report_runs import only, table, write_run

TINY = ["debug=tiny", "model.hidden=[8]", "total_steps=20"]
COUNTS = ("num_retreats", "num_clamped", "num_alarms")


@pytest.fixture
def place(tmp_path, monkeypatch):
    write_self_tuning(tmp_path / "mine")
    return own_place(tmp_path, monkeypatch)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_train_takes_it_with_any_optimizer_and_records_its_counts(place, capsys, optimizer):
    options = [*TINY, f"optimizer={optimizer}", "lr=learned", "lr.name=mine"]
    code, _, _ = outcome(capsys, "train", *options)
    assert code == 0
    (folder,) = runs(place)
    end = read_record(folder).end
    assert end["status"] == "finished" and all(type(end[name]) is int for name in COUNTS)


def test_transfer_compares_it_without_a_peak(place, capsys):
    arguments = ["transfer", "checkpoint=mine", *TINY, "seeds=[0]"]
    code, out, _ = outcome(capsys, *arguments, "baselines=[cosine,autodrop]")
    assert code == 0
    assert out.splitlines()[:4] == [
        "learned          no peak (it finds its own learning rate)",
        "three_constants  no peak (the learned run's mean rate in each third of it)",
        "cosine           peak 0.1, not tuned (its default)",
        "autodrop         peak 0.1, not tuned (its default)",
    ]
    rows = {p.parent.parent.name: read_rows(p.parent) for p in Path("runs").rglob("records.jsonl")}
    head, end = rows["learned"][0], rows["learned"][-1]
    assert len(head["checkpoint"]) == 16 and head["meta_training_cost"] == 10.0
    assert (head["peak"], head["tuned"]) == (None, None)
    assert set(COUNTS) <= set(end) and not set(COUNTS) & set(rows["cosine"][-1])
    assert (rows["cosine"][0]["peak"], rows["cosine"][0]["tuned"]) == (0.1, False)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("peak=0.05", "peak 0.05, not tuned (peak=)"),
        ("tune.peaks=[0.01,0.1]", "peak tuned on val over 0.01, 0.1"),
    ],
)
def test_the_baselines_peaks_can_be_given_or_tuned(place, capsys, option, said):
    arguments = ["transfer", "checkpoint=mine", *TINY, "seeds=[0]", "baselines=[cosine]"]
    _, out, _ = outcome(capsys, *arguments, "three_constants=false", option)
    assert out.splitlines()[1] == f"cosine   {said}"


# ----------------------------------------------------------------------------------- the report


def write_counts(path, **counts):
    """Add counts to the end row of a record."""
    text = "".join(f'"{name}": {value}, ' for name, value in counts.items())
    path.write_text(path.read_text().replace('{"kind": "end", ', '{"kind": "end", ' + text))


def test_the_report_shows_the_mean_counts_of_the_runs_that_ended(tmp_path):
    for seed, (retreats, clamped) in enumerate([(1, 5), (2, 10)]):
        path = write_run(tmp_path / f"s{seed}", method="learned", seed=seed, checkpoint="f00d")
        write_counts(path, num_retreats=retreats, num_clamped=clamped, num_alarms=0)
    write_run(tmp_path / "s2", method="learned", seed=2, checkpoint="f00d", ends=False)
    write_counts(write_run(tmp_path / "safe", method="safe"), num_fallbacks=7, num_own_things=3)
    write_run(tmp_path / "c", method="cosine")
    rows = table(only(tmp_path), "Events")
    assert list(rows) == ["learned", "safe"]
    nothing = {"fallbacks": "-", "own things": "-"}
    numbers = {"retreats": "1.5", "clamped": "7.5", "alarms": "0", **nothing}
    assert rows["learned"] == {"method": "learned", **numbers}
    assert (rows["safe"]["fallbacks"], rows["safe"]["own things"]) == ("7", "3")
    assert rows["safe"]["retreats"] == "-"
    note = event_table(only(tmp_path)).note
    assert "clamped: steps at which the update was limited" in note and "own things:" not in note


def test_the_table_of_events_is_on_the_page_and_in_the_text(tmp_path):
    write_counts(write_run(tmp_path / "run"), num_retreats=17)
    analysis = only(tmp_path)
    part = problem_part(analysis, looks(m.label for m in analysis.methods), tmp_path)
    html = document("a title", "1 run", [part], {}, root=tmp_path, digest="")
    assert "<h3>Events</h3>" in html and ">17</td>" in html
    text = part.markdown()
    assert "**Events**" in text and "retreats: the smoothed loss rose" in text


def test_a_report_of_controllers_that_count_nothing_has_no_table_of_events(tmp_path):
    write_run(tmp_path / "c", method="cosine")
    assert event_table(only(tmp_path)) is None
    assert "Events" not in {found.caption for found in problem_tables(only(tmp_path))}


def test_the_name_of_a_count_cannot_disturb_a_terminal(tmp_path):
    write_counts(write_run(tmp_path / "c"), **{"num_\\u001b[31m": 1})
    (columns,) = (found.columns for found in [event_table(only(tmp_path))])
    assert columns == ("method", "\\x1b[31m")
