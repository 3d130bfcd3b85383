"""`angle_every`: rows with the running angle, in runs that are otherwise as without."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from meta_lr.methods.autodrop.windows import AutoDrop
from meta_lr.methods.basic import Cosine
from meta_lr.records.reader import read_record
from meta_lr.testing.compare import difference
from meta_lr.training.loop import StoppedError, train
from tests.commands import SMALL, outcome, own_place, runs
from tests.reference import autodrop as slow
from tests.short_runs import SGD, ends, record_of, steps_of, stop_when
from tests.toys import Toy


def angles_of(folder):
    return {row["step"]: row["angle"] for row in read_record(folder).angles}


def test_a_run_with_angles_is_the_run_without_and_rows_more(tmp_path):
    run = partial(train, Toy(), SGD, Cosine(0.1), total_steps=20)
    plain = run(folder=tmp_path / "plain")
    watched = run(folder=tmp_path / "watched", angle_every=3)
    assert difference(ends(plain), ends(watched)) == ""
    lines = record_of(tmp_path / "watched").splitlines()
    assert [line for line in lines if b'"angle"' not in line] == record_of(
        tmp_path / "plain"
    ).splitlines()
    assert list(angles_of(tmp_path / "watched")) == [9, 12, 15, 18]


def test_the_angles_are_those_of_the_plain_formula(tmp_path):
    torch.set_default_dtype(torch.float64)
    plain = Toy(dropout=0.0, norm=False)
    train(plain, SGD, AutoDrop(0.1, k=3), total_steps=40, folder=tmp_path, angle_every=3)
    model = plain.model()
    told = {"steps": 40, "lr": 0.1, "rho": 0.95, "k": 3, "m": 10, "least": 10, "threshold": 0.1}
    batch = partial(plain.batch, "train")
    optimizer = SGD(model.parameters())
    _, angles = slow.run_2024(model, optimizer, plain.loss, batch, **told, floor=1e-4, signed=False)
    assert list(angles_of(tmp_path).values()) == pytest.approx(angles, rel=1e-9)
    assert len(angles) == 11


def test_a_run_with_angles_that_stops_at_every_step_goes_on_exactly(tmp_path):
    method = AutoDrop(0.1, k=2, buffer=3, threshold=8.0)
    run = partial(train, Toy(), SGD, method, total_steps=24, angle_every=2)
    whole = run(folder=tmp_path / "whole")
    for step in range(24):
        with pytest.raises(StoppedError):
            run(folder=tmp_path / "parts", stop=stop_when(1 if step else 0))
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")
    assert whole.state.num_drops >= 1 and len(angles_of(tmp_path / "parts")) == 10
    assert len(steps_of(tmp_path / "parts")) == 24


def test_the_command_line_switches_angles_on(tmp_path, monkeypatch, capsys):
    place = own_place(tmp_path, monkeypatch)
    assert outcome(capsys, "train", *SMALL, "record.angle_every=4")[0] == 0
    assert outcome(capsys, "train", *SMALL, "record.angle_every=4", "record.angle=true")[0] == 0
    found = [list(angles_of(folder)) for folder in runs(place)]
    assert sorted(found) == [[], [12, 16, 20, 24, 28]]


def test_a_folder_with_other_angles_is_refused(tmp_path):
    run = partial(train, Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path)
    with pytest.raises(StoppedError):
        run(stop=stop_when(2))
    with pytest.raises(ValueError, match="holds a run with angle_every None, not 2; use another"):
        run(angle_every=2)
    with pytest.raises(ValueError, match="angle_every is -1; it is a number of steps, 0 for no"):
        train(Toy(), SGD, Cosine(0.1), total_steps=6, angle_every=-1)
