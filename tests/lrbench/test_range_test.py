"""The LR range test: its sweep, what it suggests, and the command."""

import json
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from meta_lr.lrbench.range_test import range_test, suggest
from meta_lr.methods.sweep import Sweep, smooth
from meta_lr.records.reader import Record, read_record, read_rows
from meta_lr.tasks import Quadratic
from meta_lr.training.loop import train
from meta_lr.training.outcome import StoppedError
from tests.cli.test_cli import settable
from tests.commands import outcome
from tests.short_runs import record_of, stop_when

SGD = partial(torch.optim.SGD, lr=0.1)
LIMIT = 2.0  # of stable rates on the quadratic, whose largest curvature is 1
WIDE: dict[str, Any] = {"low": 1e-4, "high": 10.0, "steps": 150}


def record(losses, status="finished", total_steps=100):
    """The record of a sweep with these losses; the rate rises tenfold in 25 steps from 1e-4."""
    steps = [
        {"kind": "step", "step": step, "loss": float(loss), "lr": 1e-4 * 10 ** (step / 25)}
        for step, loss in enumerate(losses)
    ]
    end = {"kind": "end", "status": status, "cost": len(steps)}
    return Record([{"kind": "header", "total_steps": total_steps}, *steps, end])


def valley(falls=30, rises=70):
    """Losses (100,) that go from 2 to 1 within five steps, and back."""
    steps = np.arange(100)
    return 2 - np.clip((steps - falls) / 5, 0, 1) + np.clip((steps - rises) / 5, 0, 1)


def test_the_rate_rises_in_equal_ratios_from_low_to_high():
    rows = []
    sweep = Sweep(0.001, 0.5)
    ended = train(Quadratic(), SGD, sweep, total_steps=30, listener=rows.append)
    rates = np.array([row["lr"] for row in rows if row["kind"] == "step"])
    assert ended.status == "finished"
    np.testing.assert_allclose(rates, np.geomspace(0.001, 0.5, 30), rtol=1e-12)


def test_smoothing_is_a_weighted_mean_from_the_first_step_on():
    losses = np.random.default_rng(0).normal(size=40)
    for smoothing in (0.0, 0.7, 0.95):
        weights = [smoothing ** np.arange(t, -1, -1.0) for t in range(40)]
        means = [np.average(losses[: t + 1], weights=weights[t]) for t in range(40)]
        np.testing.assert_allclose(smooth(losses, smoothing), means, rtol=1e-12)


def test_a_sweep_that_diverges_stops_at_the_bound_and_ends_its_record(tmp_path):
    found = range_test(Quadratic(), SGD, **{**WIDE, "high": 1e4}, folder=tmp_path)
    rows = read_rows(tmp_path)
    steps, end = len(found.rates), rows[-1]
    assert steps < 120 and found.rates[-1] < 50 and found.diverged
    assert (end["kind"], end["status"], end["cost"]) == ("end", f"diverged at step {steps}", steps)
    assert found.cost == steps
    bound = found.smoothed.min() + np.abs(found.losses[0, :15]).max()
    assert (found.smoothed <= bound).all(), "the step that broke the bound was not taken"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_the_quadratic_k1_is_below_the_limit_of_stable_rates_and_near_it(seed):
    found = range_test(Quadratic(seed=seed), SGD, **WIDE, seed=seed)
    assert 0.25 * LIMIT < found.k1 < 0.75 * LIMIT
    assert 1e-3 < found.k0 < 0.1
    start = found.losses[0, :15].mean()
    fallen = (start - found.smoothed) / (start - found.smoothed.min())
    at = int(np.searchsorted(found.rates, found.k0))
    assert fallen[at - 1] < 0.1 <= fallen[at]


def test_the_suggestion_by_hand():
    found = suggest([record(valley())], smoothing=0.0, safety=2.0)
    rates = found.rates
    assert (found.k0, found.k1) == (rates[31], rates[71] / 2)
    assert not found.diverged
    exploded = suggest([record(valley()[:71], "diverged at step 71")], smoothing=0.0, safety=2.0)
    assert exploded.diverged and exploded.k1 == rates[70] / 2, "the last rate before it"


def test_sweeps_are_averaged_up_to_where_the_first_one_diverged():
    high, low = record(valley() + 1), record(valley()[:80] - 4, "diverged at step 80")
    found = suggest([high, low], smoothing=0.5, safety=3.0)
    single = suggest(
        [record(valley()[:80] - 1.5, "diverged at step 80")], smoothing=0.5, safety=3.0
    )
    assert found.losses.shape == (2, 80) and found.cost == 180
    np.testing.assert_allclose(found.smoothed, single.smoothed, rtol=1e-12)
    assert (found.k0, found.k1) == (single.k0, single.k1)
    assert found.smoothed.min() < 0, "which has no logarithm"


DOWN, UP, DIVERGED = "; lower low", "; raise high, or take more steps", "diverged at step n"
NOISE = np.random.default_rng(0).normal(2, 0.2, size=100)


@pytest.mark.parametrize(
    ("losses", "status", "said"),
    [
        (np.full(100, 2.0), "finished", f"never falls clearly .*{UP}"),
        (NOISE, "finished", rf"never falls clearly .*noise of 0\.\d+.*{UP}"),
        (2 + np.arange(100) / 50, "finished", f"never falls clearly .*{DOWN}"),
        (2 + np.arange(40) / 10, DIVERGED, f"never falls clearly .*{DOWN}"),
        (valley(falls=3), "finished", rf"already falls at the lowest learning rate, 0\.0001{DOWN}"),
        (valley(rises=100), "finished", rf"not risen yet at the highest learning rate, 0\.912{UP}"),
        (
            valley(30, 36),
            "finished",
            "falls from the learning rate .* and rises from .*; sweep more slowly",
        ),
        (valley()[:9], DIVERGED, f"diverges within the first tenth of the sweep{DOWN}"),
    ],
)
def test_a_sweep_that_shows_no_range_says_what_to_widen(losses, status, said):
    with pytest.raises(ValueError, match=said):
        suggest([record(losses, status)], smoothing=0.5, safety=4.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"low": 0.0}, "low=0.0, high=10.0; the learning rates need 0 < low < high, finite"),
        ({"low": 20.0}, "low=20.0, high=10.0; the learning rates need"),
        ({"high": float("inf")}, "high=inf; the learning rates need"),
        ({"steps": 19}, "a sweep of 19 steps says nothing; needed are at least 20"),
        ({"smoothing": 1.0}, r"smoothing=1.0; a number in \[0, 1\) is needed"),
        ({"safety": 0.9}, "safety=0.9; a finite number is needed, at least 1"),
    ],
)
def test_what_cannot_be_swept_is_refused(options, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        range_test(Quadratic(), SGD, **{**WIDE, **options}, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [7, 60])
def test_a_sweep_that_was_stopped_goes_on_to_the_same_record_and_range(tmp_path, count):
    whole = range_test(Quadratic(), SGD, **WIDE, folder=tmp_path / "whole")
    cut = partial(train, Quadratic(), SGD, Sweep(1e-4, 10.0), folder=tmp_path / "cut")
    with pytest.raises(StoppedError):
        cut(total_steps=150, eval_every=150, stop=stop_when(count))
    for _ in ("resumed", "only read"):
        found = range_test(Quadratic(), SGD, **WIDE, folder=tmp_path / "cut")
        assert record_of(tmp_path / "cut") == record_of(tmp_path / "whole")
        assert (found.k0, found.k1, found.cost) == (whole.k0, whole.k1, whole.cost)


def test_without_a_folder_it_is_the_same(tmp_path):
    kept = range_test(Quadratic(), SGD, **WIDE, folder=tmp_path)
    free = range_test(Quadratic(), SGD, **WIDE)
    np.testing.assert_array_equal(free.losses, kept.losses)
    assert (free.k0, free.k1) == (kept.k0, kept.k1)


def test_the_command_suggests_overrides_and_writes_numbers_and_a_figure(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    asked = ["low=1e-3", "total_steps=80", "sweeps=2", "seed=3", "model.hidden=[16]"]
    code, out, err = outcome(capsys, "range-test", *asked)
    assert (code, err) == (0, "")
    (folder,) = tmp_path.glob("runs/range_test/*")
    kept = json.loads((folder / "range.json").read_text())
    k0, k1 = (f"{kept[name]:.3g}" for name in ("k0", "k1"))
    assert f"lr.k0={k0} lr.k1={k1}\n" in out and f"lr.peak={k1}\n" in out
    assert (kept["task"], kept["model"], kept["optimizer"]) == ("digits", "mlp", "sgd_momentum")
    headers = [read_record(folder / f"seed-{seed}").header for seed in (3, 4)]
    assert [row["config"]["task"]["seed"] for row in headers] == [3, 4]
    ends = [read_record(folder / f"seed-{seed}").end for seed in (3, 4)]
    assert kept["cost"] == sum(row["cost"] for row in ends)
    assert len(kept["losses"]) == 2
    assert len(kept["rates"]) == len(kept["smoothed"]) == len(kept["losses"][1])
    assert (folder / "range.png").read_bytes().startswith(b"\x89PNG")
    svg = (folder / "range.svg").read_text()
    assert "learning rate" in svg and "k0" in svg and "k1" in svg
    before = (folder / "range.json").read_bytes()
    code, out, _ = outcome(capsys, "range-test", *asked)
    assert code == 0 and out.count("was finished before") == 2
    assert (folder / "range.json").read_bytes() == before


def test_help_shows_each_option_with_its_comment(capsys):
    _, out, _ = outcome(capsys, "range-test", "--help")
    _, config, _ = outcome(capsys, "range-test", "--cfg", "job")
    shown = set(re.findall(r"^    ([a-z][\w.]+)=\S* +\S", out, re.MULTILINE))
    assert set(settable(yaml.safe_load(config))) <= shown
    assert out.startswith("meta-lr range-test: ")
