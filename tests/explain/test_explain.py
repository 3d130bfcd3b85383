"""What a checkpoint does with the loss: replay, verdict, effects, closed form, card and figure."""

import math
import re
import shutil
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from meta_lr import checkpoint
from meta_lr.explain import loss_schedule as logic
from meta_lr.explain.text import BEGIN, END, with_section
from meta_lr.methods.curve import learning_rates
from meta_lr.methods.features.features import Features
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.methods.piecewise import Piecewise
from meta_lr.records.reader import read_record
from meta_lr.tasks import Quadratic
from meta_lr.training.loop import train
from tests.commands import outcome, write_checkpoint

NET = MLP((1,))  # on positive losses with a first weight of 1: sigmoid(slope loss + bias)
SGD = partial(torch.optim.SGD, lr=0.1)


def sigmoids(*stages, gamma=0.5, loss_range=(0.1, 3.0)):
    """Return a scheduler whose stages are gamma sigmoid(slope loss + bias)."""
    weights = [
        (torch.ones(1, 1), torch.zeros(1), torch.full((1, 1), slope), torch.full((1,), bias))
        for slope, bias in stages
    ]
    return Learned(NET, weights, gamma, family="sgd", loss_range=loss_range)


CONSTANT = sigmoids((0.0, -1.0))
FIXED = sigmoids((0.0, -1.0), (0.0, -3.0))
LISTENS = sigmoids((-2.0, 1.0))


def explained(learned, steps=200):
    return logic.explain(learned, logic.synthetic(learned.loss_range, steps))


def save(learned, folder, card="# A card\n"):
    checkpoint.save(folder, learned, trained_on={}, card=card)
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(folder, controller=LISTENS, steps=60, seed=0, **options):
    train(Quadratic(seed=seed), SGD, controller, total_steps=steps, folder=folder, **options)
    return folder


# Replay


def test_replay_gives_the_rates_by_the_formula():
    losses = np.linspace(2.5, 0.2, 50)
    expected = 0.5 / (1 + np.exp(2 * losses - 1))
    assert logic.replay(LISTENS, losses) == pytest.approx(expected, rel=1e-6)


def test_replay_gives_the_rates_of_the_training_that_was_recorded(tmp_path):
    net = LSTM(hidden=5, inputs=3)
    features = Features(("log_loss", "change_10", "progress"))
    learned = Learned(net, [net.init(0), net.init(1)], 0.1, features=features)
    _, losses = logic.recorded(run(tmp_path / "run", learned))
    rates = [row["lr"] for row in read_record(tmp_path / "run").steps]
    assert logic.replay(learned, losses) == pytest.approx(rates, rel=1e-12)
    assert np.ptp(rates) > 0


def test_replay_does_not_warn_of_losses_that_were_never_seen():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = logic.replay(LISTENS, np.full(10, 50.0))
    assert found == pytest.approx(
        logic.replay(replace(LISTENS, loss_range=None), np.full(10, 50.0))
    )
    assert (found >= 0).all() and len(found) == 10


def test_losses_that_were_not_recorded_are_those_before(tmp_path):
    _, all_ = logic.recorded(run(tmp_path / "all"))
    name, some = logic.recorded(run(tmp_path / "some", record_every=7))
    assert some == pytest.approx(all_[np.arange(60) // 7 * 7], rel=1e-12)
    assert name == "quadratic, Learned, seed 0"


def test_a_stretched_run_keeps_its_parts():
    losses = np.arange(10.0)
    assert logic.stretched(losses, 20).tolist() == [i // 2 for i in range(20)]
    assert logic.stretched(losses, 5).tolist() == [0, 2, 4, 6, 8]
    assert logic.stretched(losses, 10).tolist() == losses.tolist()


def test_synthetic_losses_stay_in_the_range_differ_and_are_always_the_same():
    curves = logic.synthetic((0.5, 2.0), 300)
    again = logic.synthetic((0.5, 2.0), 300)
    for name, curve in curves.items():
        assert curve.shape == (300,) and 0.5 <= curve.min() < curve.max() <= 2.0
        assert np.array_equal(curve, again[name])
        assert curve[:20].mean() > 1.05 * curve[-20:].mean()
    middle, slow, high, low = curves.values()
    assert low.mean() < middle.mean() < high.mean()
    assert middle[100:150].mean() < 0.8 * slow[100:150].mean()
    assert logic.synthetic(None, 10)["synthetic, middle"].max() <= logic.RANGE[1]


# The verdict


@pytest.mark.parametrize(
    ("learned", "verdict"),
    [
        (CONSTANT, "a constant"),
        (FIXED, "a fixed curve"),
        (LISTENS, "it listens to the loss"),
        (sigmoids((-0.001, 1.0)), "a constant"),
        (sigmoids((-0.001, 1.0), (0.001, -1.0)), "a fixed curve"),
    ],
)
def test_the_verdict(learned, verdict):
    assert explained(learned).verdict == verdict


@pytest.mark.parametrize(("gap", "verdict"), [(0.0099, "a fixed curve"), (0.0101, "it listens")])
def test_one_step_with_another_rate_is_enough_to_listen(gap, verdict):
    """The loss matters in the last of 50 stages only, by just below or above 1 %."""
    losses = {"a": np.full(50, 1.0), "b": np.full(50, 2.0)}
    slope = math.log((1 + math.exp(4)) / (1 - gap) - 1) - 4  # from sigmoid(-4) to (1 - gap) of it
    stages = [(0.0, -1.0)] * 49 + [(-slope, slope - 4)]
    found = logic.explain(sigmoids(*stages), losses)
    assert found.verdict.startswith(verdict)
    assert found.difference == pytest.approx(gap, rel=1e-3)
    assert (found.usual_difference, found.loss_difference) == (0.0, 0.5)


def test_runs_of_the_same_losses_say_nothing():
    same = np.linspace(2, 1, 20)
    with pytest.raises(
        ValueError, match="the losses of the runs are all the same; pass runs whose"
    ):
        logic.explain(FIXED, {"a": same, "b": same.copy()})


# The effects


def test_the_effects_of_level_and_slope_are_those_of_the_formula():
    found = explained(LISTENS)
    losses = found.losses["synthetic, middle"]

    def rate(loss):
        return 1 / (1 + np.exp(2 * loss - 1))

    tilt = 1.1 ** (0.5 - np.arange(200) / 200)
    for effect, changed in zip(found.effects, (1.1 * losses, tilt * losses), strict=False):
        relative = rate(changed) / rate(losses) - 1
        assert effect.median == pytest.approx(np.median(relative), rel=1e-3)
        assert effect.largest == pytest.approx(relative[np.abs(relative).argmax()], rel=1e-3)


def test_a_rate_of_the_loss_alone_comes_later_with_the_losses_and_a_fixed_curve_does_not():
    later = explained(LISTENS).effects[2]
    assert later.change == "the same losses, later by 2 of 200 steps"
    assert (later.median, later.largest) == (0.0, 0.0)
    later = explained(FIXED).effects[2]
    low, high = (1 / (1 + math.exp(b)) for b in (3, 1))
    assert (later.median, later.largest) == (0.0, pytest.approx(low / high - 1, rel=1e-5))


# The closed form


def test_a_smooth_curve_needs_few_knots_and_keeps_its_error():
    rates = 0.3 * (1 + np.cos(np.pi * np.arange(500) / 500)) / 2 + 1e-3
    policy, errors = logic.distil(rates)
    replayed = learning_rates(policy, 500)
    assert 4 < len(policy.knots) < 24
    assert errors.max() < 0.02
    assert np.abs(replayed / rates - 1) == pytest.approx(errors, abs=1e-9)


def test_a_jump_between_two_constants_needs_four_knots():
    rates = np.where(np.arange(90) < 30, 0.1, 0.002)
    policy, errors = logic.distil(rates)
    assert [round(90 * fraction) for fraction, _ in policy.knots] == [0, 29, 30, 89]
    assert errors.max() < 1e-12


def test_a_wild_curve_gets_all_knots_and_says_how_far_off_it_is():
    rates = np.exp(np.random.default_rng(0).standard_normal(300))
    policy, errors = logic.distil(rates)
    assert len(policy.knots) == 32 and errors.max() > 0.02


def test_a_rate_of_zero_has_no_closed_form():
    with pytest.raises(ValueError, match="the rate is 0 at step 7"):
        logic.distil(np.where(np.arange(20) == 7, 0.0, 0.1))


# The command


def test_the_command_tells_draws_distils_and_changes_nothing_but_its_part_of_the_card(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    card = "# A card\r\n\nwith its \u00fcmlaut, and no end of line"
    folder = save(FIXED, tmp_path / "mine", card)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, out, err = outcome(capsys, "explain", "mine", "--steps", "80")
    assert (code, err) == (0, "")
    assert re.search(r"^rate at +0 % +25 % +50 % +75 % +100 %$", out, re.M)
    assert re.search(r"^synthetic, low +0\.1345 +0\.1345 +0\.02371 +0\.02371 +0\.02371$", out, re.M)
    assert "In effect a fixed curve: on different losses the rate differs by at most 0 %" in out
    assert "Distilled: 4 knots" in out
    assert "lr=piecewise lr.path=mine/explain/policy.json optimizer=sgd_plain\n" in out

    assert sorted(p.name for p in (folder / "explain").iterdir()) == [
        *("explain.png", "explain.svg", "policy.json")
    ]
    svg = (folder / "explain" / "explain.svg").read_text()
    for word in ("synthetic, middle", "distilled", "learning rate", "loss", "stroke-dasharray"):
        assert word in svg
    assert (folder / "explain" / "explain.png").read_bytes().startswith(b"\x89PNG")
    policy = Piecewise.load(folder / "explain" / "policy.json")
    assert policy.family == FIXED.family == "sgd"
    rates = learning_rates(policy, 80)
    expected = logic.replay(FIXED, np.ones(80))
    assert rates == pytest.approx(expected, rel=1e-9)

    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    written = after.pop("README.md").decode()
    old = before.pop("README.md").decode()
    assert after == before, "weights and contract stay as they are, and so does the fingerprint"
    checkpoint.load(folder)
    assert old == card and written.startswith(old + "\n\n" + BEGIN)
    assert "](explain/explain.png)" in written and "In effect a fixed curve" in written
    assert "no network, with an optimizer of the family `sgd`." in written
    assert "| synthetic, low | 0.1345 | 0.1345 | 0.02371 | 0.02371 | 0.02371 |" in written


def test_a_second_time_replaces_the_first_and_keeps_what_stands_around_it(tmp_path, capsys):
    folder = save(LISTENS, tmp_path / "mine")
    card = folder / "README.md"
    outcome(capsys, "explain", str(folder), "--steps", "40")
    card.write_text(card.read_text() + "\nWritten below.\n")
    outcome(capsys, "explain", str(folder), "--steps", "50")
    text = card.read_text()
    assert text.startswith(f"# A card\n\n{BEGIN}") and text.endswith(f"{END}\n\nWritten below.\n")
    assert text.count(BEGIN) == text.count(END) == 1
    assert "of 50 steps" in text and "of 40" not in text


def test_written_elsewhere_it_leaves_the_checkpoint_as_it_is(tmp_path, capsys):
    folder = save(LISTENS, tmp_path / "mine")
    before = contents(folder)
    place = tmp_path / "else"
    _, out, _ = outcome(capsys, "explain", str(folder), "--steps", "20", "--out", str(place))
    assert contents(folder) == before and "card" not in out
    assert {path.name for path in place.iterdir()} == {"explain.png", "explain.svg", "policy.json"}


def test_a_bundled_one_stays_as_it_is_and_is_explained_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = "meta-lr-digits"
    before = contents(checkpoint.bundled() / name)
    code, out, _ = outcome(capsys, "explain", name, "--steps", "20")
    assert code == 0 and contents(checkpoint.bundled() / name) == before
    assert f"figure: explain/{name}/explain.svg, .png\n" in out
    assert f"lr.path=explain/{name}/policy.json" in out
    assert (tmp_path / "explain" / name / "policy.json").is_file()


def test_the_folder_of_a_bundled_one_is_a_folder_like_any_other(tmp_path, capsys):
    """So the cards that we bundle are made."""
    folder = shutil.copytree(checkpoint.bundled() / "meta-lr-digits", tmp_path / "meta-lr-digits")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert outcome(capsys, "explain", str(folder), "--steps", "50")[0] == 0
    again = (folder / "README.md").read_text(encoding="utf-8")
    assert "of 50 steps" in again and again.partition(BEGIN)[0] == card.partition(BEGIN)[0]


def test_a_checkpoint_without_a_card_gets_one(tmp_path, capsys):
    folder = save(CONSTANT, tmp_path / "mine")
    (folder / "README.md").unlink()
    _, out, _ = outcome(capsys, "explain", str(folder), "--steps", "20")
    assert (folder / "README.md").read_text().startswith(BEGIN)
    assert "In effect a constant: over all curves and steps the rate varies by 0 %" in out


@pytest.mark.parametrize("card", [f"a {BEGIN}", f"{END} b", f"{END} {BEGIN}"])
def test_a_card_with_half_of_the_section_is_left_alone(tmp_path, card):
    with pytest.raises(ValueError, match="has lost one of the comments"):
        with_section(card, "new", tmp_path / "README.md")


def test_recorded_runs_are_compared_at_the_length_of_the_first(tmp_path, capsys):
    folder = save(LISTENS, tmp_path / "mine")
    one = run(tmp_path / "one", steps=60)
    two = run(tmp_path / "two", steps=45, seed=3)
    code, out, err = outcome(capsys, "explain", str(folder), "--run", str(one), str(two))
    assert (code, err) == (0, "")
    assert "quadratic, Learned, seed 0 " in out and "synthetic" not in out
    assert "later by 1 of 60 steps" in out
    assert re.search(r"It listens to the loss: .* by at most \d\d? %", out)
    recorded = [row["lr"] for row in read_record(one).steps]
    line = next(line for line in out.splitlines() if line.startswith("quadratic, Learned"))
    assert line.split()[-5:] == [f"{recorded[i]:.4g}" for i in (0, 15, 30, 44, 59)]


def test_one_run_is_compared_with_synthetic_losses_and_told_apart_from_its_namesake(
    tmp_path, capsys
):
    folder = save(LISTENS, tmp_path / "mine")
    one = run(tmp_path / "one")
    _, out, _ = outcome(capsys, "explain", str(folder), "--run", str(one), "--steps", "30")
    assert "quadratic, Learned, seed 0 " in out and "synthetic, low" in out
    assert "later by 1 of 30 steps" in out
    two = run(tmp_path / "two", steps=50)
    arguments = ["--run", str(one), "--run", str(two)]
    _, out, _ = outcome(capsys, "explain", str(folder), *arguments)
    assert "quadratic, Learned, seed 0 (2) " in out


def test_losses_outside_those_of_meta_training_are_told(tmp_path, capsys):
    folder = save(sigmoids((-2.0, 1.0), loss_range=(90.0, 100.0)), tmp_path / "mine")
    _, out, _ = outcome(capsys, "explain", str(folder), "--run", str(run(tmp_path / "one")))
    assert "seed 0: 100.0% of its losses are outside what was seen in meta-training" in out


def test_the_policy_trains_as_the_command_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "mine")
    _, out, _ = outcome(capsys, "explain", "mine", "--steps", "30")
    command = re.search(r"use the policy:  meta-lr (.*)", out).group(1).split()
    place = ["hydra.run.dir=run", "logger=jsonl"]
    monkeypatch.setattr("meta_lr.cli.pages.page_of", lambda folder: "page")
    assert outcome(capsys, *command, "task=quadratic", "total_steps=30", *place)[0] == 0
    rates = [row["lr"] for row in read_record(tmp_path / "run").steps]
    policy = Piecewise.load("mine/explain/policy.json")
    assert rates == pytest.approx(learning_rates(policy, 30), rel=1e-12)
