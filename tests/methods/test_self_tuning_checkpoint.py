"""Checkpoints of self-tuning schedules: exact, and refused in one line if they cannot be used."""

import json
from dataclasses import replace

import pytest
import torch

import meta_lr
from meta_lr import checkpoint
from meta_lr.checkpoint import CheckpointError
from meta_lr.methods.features.features import Features
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.methods.self_tuning.integrator import Integrator
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from tests.test_checkpoint_values import edit, refused

FEW = Features(("progress", "level", "alignment_5"))
NET = MLP(hidden=(3,), inputs=3, outputs=2, activation="tanh")
CELL = LSTM(hidden=3, inputs=3, outputs=2)
SCHEDULES = [
    SelfTuning(NETWORK.init(0)),
    SelfTuning(NET.init(1), NET, Integrator(start=0.1), FEW),
    SelfTuning(CELL.init(2), CELL, features=FEW),
]


def keep(schedule, folder):
    checkpoint.save(folder, schedule, trained_on={"task": "varied", "cost": 5}, card="# mine\n")
    return folder


@pytest.fixture
def folder(tmp_path):
    return keep(SCHEDULES[0], tmp_path / "mine")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_is_loaded_is_what_was_saved(tmp_path, schedule):
    found = meta_lr.load_pretrained(keep(schedule, tmp_path / "mine"))
    assert repr(found) == repr(schedule) and found.fingerprint == schedule.fingerprint
    assert all(map(torch.equal, found.weights, schedule.weights))
    contract = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert contract["format_version"] == 3 and "gamma" not in contract


def test_each_part_is_in_the_fingerprint():
    whole, few, recurrent = SCHEDULES
    changed = [
        replace(whole, weights=tuple(w + 1e-3 for w in whole.weights)),
        replace(whole, integrator=Integrator(hold=0.04)),
        few,
        recurrent,
    ]
    assert len({s.fingerprint for s in (whole, *changed)}) == 5


def test_peak_and_fallback_are_refused(folder):
    for options in ({"peak": 0.1}, {"fallback": "cosine"}):
        with pytest.raises(CheckpointError, match="finds its own learning rate"):
            meta_lr.load_pretrained(folder, **options)


BROKEN = {
    "kind": ("other", "is of the kind 'other', which this meta_lr does not know"),
    "factors": ([1.0], "has factors=[1.0], and this meta_lr reads the features with"),
    "integrator": ({"start": 1.0}, "has integrator={'start': 1.0}; needed are start, target"),
    "arguments": ({"hidden": [8], "inputs": 3}, "does not fit the features"),
}


@pytest.mark.parametrize("entry", BROKEN)
def test_wrong_entries_are_refused(folder, entry):
    value, said = BROKEN[entry]
    edit(folder, **{entry: value})
    assert said in refused(folder)


@pytest.mark.parametrize("value", [-1.0, 0.0, "1", True, None])
def test_bounds_that_are_no_positive_numbers_are_refused(folder, value):
    bounds = {**json.loads((folder / "config.json").read_text())["integrator"], "hold": value}
    edit(folder, integrator=bounds)
    assert f"Integrator got hold={value!r}; a positive number is needed" in refused(folder)


def test_missing_entries_are_named(folder):
    contract = json.loads((folder / "config.json").read_text())
    del contract["integrator"], contract["features"]
    (folder / "config.json").write_text(json.dumps(contract))
    assert refused(folder) == "lacks features, integrator; copy the checkpoint again"


def test_changed_bounds_do_not_belong_to_the_weights(folder):
    bounds = {**json.loads((folder / "config.json").read_text())["integrator"], "hold": 0.5}
    edit(folder, integrator=bounds)
    with pytest.raises(CheckpointError, match="the weights are not those that"):
        checkpoint.load(folder)


def test_a_network_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="it needs inputs=3, the number of its features, and"):
        SelfTuning(NETWORK.init(0), NETWORK, features=FEW)
