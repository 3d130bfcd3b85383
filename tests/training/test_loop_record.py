"""What the record holds: costs, header, counts, each n-th step, numbers that JSON does not have."""

from __future__ import annotations

import json
import math
from functools import partial

import pytest
import torch

from meta_lr.methods.basic import Cosine
from meta_lr.methods.fallback import Fallback
from meta_lr.records.reader import FORMAT, NAME, read_record, read_rows
from meta_lr.records.writer import Recorder
from meta_lr.testing.compare import difference
from meta_lr.training.loop import train
from tests.short_runs import ADAM, SGD, ends, online, steps_of
from tests.times import untimed
from tests.toys import HeavyProber, LossRate, Toy


def test_costs_add_up(tmp_path):
    outcome = train(Toy(), SGD, HeavyProber(), total_steps=6, folder=tmp_path, eval_every=2)
    per_step = 1 / 3 + 2 + 3 + 2 / 3  # what the prober does; all batches are of one size
    for row in steps_of(tmp_path):
        assert row["search_cost"] == pytest.approx((row["step"] + 1) * per_step)
        assert row["cost"] == pytest.approx((row["step"] + 1) * (1 + per_step))
    for row in read_rows(tmp_path):
        if row["kind"] == "eval":
            assert row["cost"] == pytest.approx(row["step"] * (1 + per_step))
    assert outcome.cost == pytest.approx(6 * (1 + per_step))
    assert outcome.search_cost == pytest.approx(6 * per_step)


def test_counts_of_the_controller_are_in_the_end_row(tmp_path):
    safe = Fallback(Cosine(0.1), Cosine(0.2), 1e-3)
    train(Toy(), SGD, safe, total_steps=6, folder=tmp_path)
    assert read_record(tmp_path).end["num_fallbacks"] == 6


def test_each_nth_step_is_recorded(tmp_path):
    run = partial(train, Toy(), SGD, LossRate(), total_steps=10)
    run(folder=tmp_path / "all")
    run(folder=tmp_path / "some", record_every=4)
    some, all_ = (untimed(steps_of(tmp_path / name)) for name in ("some", "all"))
    assert [row["step"] for row in some] == [0, 4, 8]
    assert some == all_[::4]
    assert some[1]["cost"] == 5.0 and some[1]["lr"] == pytest.approx(0.1 * some[1]["loss"])


def test_the_header_says_what_a_result_depends_on(tmp_path):
    more = {"command": "train", "method": "cosine", "config": {"path": tmp_path, "x": math.inf}}
    train(Toy(), ADAM, Cosine(0.1), total_steps=3, seed=5, folder=tmp_path, header=more)
    header = read_record(tmp_path).header
    versions = header.pop("versions")
    assert versions["torch"] == torch.__version__ and set(versions) == {
        "python",
        "torch",
        "meta_lr",
    }
    assert isinstance(header.pop("hardware"), str) and "commit" in header
    del header["commit"]
    assert header == {
        "kind": "header",
        "format": FORMAT,
        "command": "train",
        "task": "toy",
        "model": "Net",
        "optimizer": "adam",
        "method": "cosine",
        "controller": "Cosine(peak=0.1, floor=0.0)",
        "seed": 5,
        "total_steps": 3,
        "steps_per_epoch": 5,
        "config": {"path": str(tmp_path), "x": "inf"},
        "threads": torch.get_num_threads(),
    }


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = train(Toy(), SGD, online(), total_steps=7, folder=tmp_path / "kept")
    told = []
    plain = train(Toy(), SGD, online(), total_steps=7, listener=told.append)
    assert difference(ends(kept), ends(plain)) == "" and plain.folder is None
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert untimed(told) == untimed(read_rows(tmp_path / "kept"))


def test_numbers_that_json_does_not_have_are_written_as_strings(tmp_path):
    row = {"kind": "header", "loss": math.nan, "low": -math.inf, "high": [math.inf, 1.5]}
    recorder = Recorder(lambda row: None)
    recorder.open(tmp_path)
    recorder.add(row)
    recorder.flush()
    recorder.close()
    line = json.loads((tmp_path / NAME).read_text())
    assert line == {"kind": "header", "loss": "nan", "low": "-inf", "high": ["inf", 1.5]}
    (back,) = read_rows(tmp_path)
    assert math.isnan(back["loss"]) and back["low"] == -math.inf


def test_the_clock_starts_once_all_is_built(tmp_path, monkeypatch):
    now = 0.0

    class Slow(Toy):
        def model(self):
            nonlocal now
            now += 1000.0
            return super().model()

    monkeypatch.setattr("meta_lr.training.loop.time.perf_counter", lambda: now)
    assert train(Slow(), SGD, Cosine(0.1), total_steps=2, folder=tmp_path).seconds == 0.0
