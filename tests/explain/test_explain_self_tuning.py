"""What a schedule that finds its own learning rate does: replays, ten numbers, effects, command."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from meta_lr import checkpoint
from meta_lr.explain.facts import facts
from meta_lr.explain.history import AGREES, BLOWS_UP, FALLS, RISES, STUCK, histories
from meta_lr.explain.readings import outputs, readings
from meta_lr.explain.replay import CRITICAL, EVENTS, replay
from meta_lr.explain.sensitivity import effects
from meta_lr.explain.text import BEGIN, END
from meta_lr.methods.features.arithmetic import FLOATS
from meta_lr.methods.features.features import Features
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.methods.self_tuning.integrator import Integrator, Scale
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.optim.signals import signals_of
from meta_lr.report.explain_figure import replay_picture
from meta_lr.seeds import generator
from tests.commands import outcome, write_self_tuning

STEPS = 120
CELL = LSTM(hidden=4, inputs=NETWORK.inputs, outputs=2)
NETS = {"MLP": NETWORK, "LSTM": CELL}


def drawn(net, size=0.3):
    """A schedule with weights as large as asked; of size 0 the network says nothing."""
    draw = generator(1, "weights")
    return SelfTuning(tuple(size * torch.randn(w.shape, generator=draw) for w in net.init(0)), net)


def replays(schedule, steps=STEPS):
    return {name: replay(schedule, history) for name, history in histories(steps).items()}


SILENT = drawn(NETWORK, 0.0)
QUIET = replays(SILENT)


# The replay


def test_the_histories_are_what_they_are_called_and_always_the_same():
    falls, stuck, blown = (histories(200)[name].losses for name in (FALLS, STUCK, BLOWS_UP))
    assert falls[-20:].mean() < 0.2 * falls[:5].mean()
    assert abs(stuck[30:60].mean() / stuck[:30].mean() - 1) < 0.03 and stuck[-1] < 0.2 * stuck[0]
    assert blown.max() > 4 * blown[0] and 80 <= blown.argmax() < 100 and blown[-1] < 0.2 * blown[0]
    assert all(np.array_equal(histories(200)[n].losses, histories(200)[n].losses) for n in QUIET)


@pytest.mark.parametrize("name", [FALLS, BLOWS_UP])
def test_the_signals_of_a_replay_fit_its_losses_and_its_learning_rates(name):
    history, found = histories(STEPS)[name], QUIET[name]
    loss, *totals = (
        torch.tensor([state.last for state in found.states], dtype=torch.float64).numpy().T
    )
    gradient, update, alignment, _ = signals_of(totals, np.sqrt)
    weights = np.array([state.path[0].norm().item() for state in found.states])
    grads, moved = gradient / weights, update * weights
    assert np.array_equal(loss, history.losses) and np.array_equal(found.losses, history.losses)
    assert grads / grads[0] == pytest.approx(np.sqrt(loss / loss[0]))
    assert moved[1:] / weights[:-1] == pytest.approx(found.updates[:-1])
    assert moved[1:] / (found.lr * grads)[:-1] == pytest.approx(moved[1] / grads[0])
    expected = history.alignment[1:] - AGREES * found.updates[:-1] / CRITICAL
    assert alignment[1:] == pytest.approx(expected.clip(-0.9), abs=1e-6)


def test_a_replay_marks_what_the_schedule_counts():
    falls, blown = QUIET[FALLS], QUIET[BLOWS_UP]
    assert falls.events["retreats"].size == falls.events["alarms"].size == 0
    for event in EVENTS:
        assert len(blown.events[event]) == getattr(blown.states[-1], f"num_{event}")
    assert blown.events["retreats"].size and blown.events["alarms"].size
    assert min(blown.events["retreats"][0], blown.events["alarms"][0]) >= RISES * STEPS
    first = blown.events["retreats"][0]
    assert blown.lr[first] < 0.9 * blown.lr[first - 1]


@pytest.mark.parametrize("net", NETS)
def test_a_reading_and_the_integrator_give_the_learning_rate_of_the_next_step(net):
    schedule = drawn(NETS[net])
    found = replay(schedule, histories(STEPS)[BLOWS_UP])
    first = found.states[0].scale[Scale._fields.index("lr")]
    for step, reading in enumerate(readings(schedule, found)):
        direct, increment = outputs(schedule, reading, reading.features[None])
        at = Scale(*reading.scale)
        lr, _ = schedule.integrator.step(
            FLOATS, at, reading.moment, direct.item(), increment.item()
        )
        assert lr / first == pytest.approx(found.lr[step + 1], rel=1e-5)


# The numbers


def test_there_are_ten_numbers_and_they_are_those_of_the_bounds_and_of_the_replays():
    bounds = Integrator(start=0.05, decade=0.2, clamp=0.07, margin=0.4)
    schedule = replace(SILENT, integrator=bounds)
    runs = replays(schedule)
    found = {fact.what: fact.value for fact in facts(schedule, runs)}
    assert len(found) == 10
    first, tenth, highest, largest, plateau, after, tenfold, spread, clamp, rise = found.values()
    assert first == pytest.approx(0.05 / STEPS**0.5)
    assert tenth == runs[FALLS].lr[12] and highest == max(runs[FALLS].lr)
    assert largest == max(runs[FALLS].updates) and 1 < plateau <= max(runs[STUCK].lr[:36])
    assert after < 0.5
    assert (tenfold, clamp, rise) == (0.2, 0.07, pytest.approx(np.exp(0.4) - 1))
    assert spread == bounds.target


def test_a_short_run_cannot_grow_faster_than_a_step_allows():
    schedule = replace(SILENT, integrator=Integrator(decade=0.01, most=0.1))
    tenfold = facts(schedule, replays(schedule, 50))[6]
    assert tenfold.value == pytest.approx(np.log(10) / (0.1 * 50))


# The effects


FEW = Features(("progress", "level", "alignment_5"))
ONE = MLP(hidden=(1,), inputs=3, outputs=2, activation="tanh")


def reads_one(place, direct, increment):
    """A schedule whose network reads one feature, with these factors of its two outputs."""
    reads = torch.zeros(1, 3)
    reads[0, place] = 0.1
    head = torch.tensor([[direct], [increment]])
    return SelfTuning((reads, torch.zeros(1), head, torch.zeros(2)), ONE, features=FEW)


@pytest.mark.parametrize(
    ("direct", "increment", "signs"),
    [(0.5, 0.0, (1, 0)), (0.0, 0.5, (0, 1)), (-0.5, -0.5, (-1, -1))],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_only_the_feature_and_the_output_that_the_weights_connect_have_an_effect(
    place, direct, increment, signs
):
    schedule = reads_one(place, direct, increment)
    found = effects(schedule, [readings(schedule, replay(schedule, histories(60)[FALLS]))])
    by_name = {effect.feature: effect for effect in found}
    effect = by_name.pop(FEW.names[place])
    assert all(other.growth == other.direct == 0 for other in by_name.values())
    assert (effect.direct_sign, effect.growth_sign) == signs
    assert (effect.direct > 0, effect.growth > 0) == (direct != 0, increment != 0)
    if increment:
        assert found[0].feature == FEW.names[place], "the largest one comes first"


def test_an_effect_has_the_size_that_the_formula_says():
    """Small factors, so tanh is linear; where the update is limited, there is no effect."""
    schedule = reads_one(0, 0.01, 0.0)
    run = replay(schedule, histories(60)[FALLS])
    (effect,) = (
        effect
        for effect in effects(schedule, [readings(schedule, run)])
        if effect.feature == "progress"
    )
    free = 1 - run.events["clamped"].size / 59
    assert effect.change == pytest.approx(np.std(np.arange(59) / 60, ddof=1))
    assert effect.direct == pytest.approx(0.1 * 0.01 * effect.change * free, rel=0.02)


def test_growth_is_given_per_part_of_the_run_whatever_its_length():
    schedule = replace(reads_one(0, 0.0, 0.01), integrator=Integrator(most=10.0))
    runs = [replay(schedule, histories(steps)[FALLS]) for steps in (100, 300)]
    short, long = (effects(schedule, [readings(schedule, run)])[0].growth for run in runs)
    kappa = np.log(10) / Integrator().decade / 100  # largest growth per 1 % of the run
    assert short == pytest.approx(long, rel=0.2)
    assert 0.3 < short / (kappa * 0.1 * 0.01 * 0.29) < 1  # less, since tanh and bounds limit it


# The command


@pytest.mark.parametrize("net", NETS)
def test_the_command_tells_and_draws_and_changes_nothing_but_the_card(
    tmp_path, monkeypatch, capsys, net
):
    monkeypatch.chdir(tmp_path)
    folder = write_self_tuning(tmp_path / "mine", net=NETS[net])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, out, err = outcome(capsys, "explain", "mine", "--steps", "60")
    assert (code, err) == (0, "") and f": {net}(" in out.splitlines()[0]
    assert "Synthetic runs of 60 steps" in out and "in runs of\n10 steps." in out
    first = f"{100 * Integrator().start / 60**0.5:.2g} %"
    assert re.search(rf"^first update, of the norm of the weights +{first}$", out, re.M)
    assert re.search(r"^times, at +0 % .* 100 % +retreats +clamped +alarms$", out, re.M)
    assert re.search(r"^alignment_30 +[\d.]+ +\S+ % +\S+ %$", out, re.M)
    assert out.endswith(
        "figure: mine/explain/explain.svg, .png; also on the card, mine/README.md\n"
    )
    assert {path.name for path in (folder / "explain").iterdir()} == {"explain.svg", "explain.png"}
    card = (folder / "README.md").read_text()
    assert card.startswith(f"# A card\n\n{BEGIN}\n\n## What it does, replayed\n\n![The learning")
    assert card.endswith(f"{END}\n") and "](explain/explain.png)" in card
    assert f"| first update, of the norm of the weights | {first} |" in card
    assert {n: (folder / n).read_bytes() for n in before if n != "README.md"} == {
        n: content for n, content in before.items() if n != "README.md"
    }
    checkpoint.load(folder)


def test_the_figure_names_the_curves_and_marks_what_happened():
    svg = replay_picture(QUIET).svg
    for word in (*QUIET, "learning rate, over the first one", "loss", "optimizer step"):
        assert f">{word}<" in svg
    none = {event: np.array([], dtype=int) for event in EVENTS}
    plain = replay_picture({name: replace(run, events=none) for name, run in QUIET.items()}).svg
    num_events = sum(steps.size for run in QUIET.values() for steps in run.events.values())
    assert svg.count("<use ") - plain.count("<use ") == num_events > 0
