"""Each kind of row is made in one place and found again by the one reader."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import meta_lr
from meta_lr.records import rows
from meta_lr.records.reader import FORMAT, NAME, Record, read_record
from meta_lr.records.writer import Recorder

PACKAGE = Path(meta_lr.__file__).parent
SPENT = {"cost": 3.0, "seconds": 0.5}
WRITTEN = [
    rows.header({"task": "toy"}, {"seed": 3}),
    rows.step(0, 2.0, 0.1, SPENT),
    rows.search({"step": 1, "what": "trial"}),
    rows.angle(2, 45.0),
    rows.evaluation(2, "val", "current", {"loss": 1.0}, SPENT),
    rows.evaluation(2, "test", "best", {"loss": 1.5}, SPENT),
    rows.update(1, -0.1, best=-0.2, diverged=0, spent=SPENT),
    rows.held_out(1, -0.2, best=-0.2, families={"mlp": -0.2, "conv": -0.3}, spent=SPENT),
    rows.end("finished", "steps", 3, SPENT, {"num_drops": 1}),
]


def written(folder, some):
    recorder = Recorder(lambda row: None)
    recorder.open(folder)
    for row in some:
        recorder.add(dict(row))
    recorder.flush()
    recorder.close()


def test_each_kind_is_found_again_as_it_was_written(tmp_path):
    written(tmp_path, WRITTEN)
    record = read_record(tmp_path)
    assert list(record.rows) == WRITTEN
    assert record.header == WRITTEN[0] and record.end == WRITTEN[-1]
    kinds = record.steps, record.searches, record.angles, record.evaluations
    assert [len(some) for some in kinds] == [1, 1, 1, 2]
    assert record.curve == [WRITTEN[4]] and record.updates == [WRITTEN[6]]
    assert record.held_out == [WRITTEN[7]]


def test_a_run_that_has_not_ended_has_no_end_and_one_that_just_began_no_header():
    assert Record(WRITTEN[:-1]).end == {} and Record(()).header == {}
    assert not Record(()).is_meta_training
    assert Record([rows.header({"plan": "..."})]).is_meta_training


def test_scores_by_family_are_written_only_where_there_are_several():
    assert "families" in WRITTEN[7]
    one = rows.held_out(1, 0.0, best=0.0, families={"mlp": 0.0}, spent={})
    assert "families" not in one


@pytest.mark.parametrize("first", [{"kind": "end"}, {"kind": "header", "format": FORMAT + 1}])
def test_what_is_no_header_of_this_format_is_refused(tmp_path, first):
    written(tmp_path, [first])
    with pytest.raises(ValueError, match=r"first must be a header|install a newer meta_lr"):
        read_record(tmp_path)


def test_texts_of_a_record_can_be_shown_anywhere(tmp_path):
    odd = {"task": "a\x1b[31m", "config": {"pa\nth": ["\x07", "nan"]}}
    written(tmp_path, [rows.header(odd, {"low": float("-inf")})])
    header = read_record(tmp_path).header
    assert header["task"] == r"a\x1b[31m" and header["low"] == float("-inf")
    assert header["config"] == {r"pa\nth": [r"\x07", "nan"]}
    assert "\\u001b" in (tmp_path / NAME).read_text(), "the record keeps the text as it was"


def test_no_other_file_makes_a_row():
    kinds = {row["kind"] for row in WRITTEN} | {"searching"}
    made = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "kind"
        if isinstance(value, ast.Constant) and value.value in kinds
    ]
    assert set(made) == {"records/rows.py"}
