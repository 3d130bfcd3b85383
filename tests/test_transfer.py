"""A checkpoint beside baselines: the control, tuning, and the plan of a comparison."""

from pathlib import Path

import pytest

from meta_lr import transfer
from meta_lr.methods.basic import Constant
from meta_lr.protocol import StepView
from meta_lr.records.reader import Record
from meta_lr.training.outcome import Outcome


def outcome(status="finished", cost=10.0, **val):
    return Outcome(
        status=status,
        steps=10,
        cost=cost,
        search_cost=0.0,
        seconds=0.0,
        search_seconds=0.0,
        model=None,
        state=None,
        val=val or {"loss": 1.0},
        test={},
        folder=None,
    )


def record(rates, total=None):
    steps = [{"kind": "step", "step": i, "lr": rate} for i, rate in enumerate(rates)]
    header = {"kind": "header", "total_steps": total or len(rates)}
    return Record([header, *steps, {"kind": "end"}])


def rates_of(controller, total):
    state, rates = controller.init(), []
    for step in range(total):
        rate, state = controller(StepView(controller, step, total_steps=total), state)
        rates.append(rate)
    return rates


# ---------------------------------------------------------------------------- three constants


def test_the_control_replays_the_mean_rate_of_each_third():
    rates = [0.1, 0.3, 0.5, 0.5, 0.2, 0.3, 0.4, 0.0]  # thirds end at 8 / 3 -> 3 and 16 / 3 -> 6
    control = transfer.three_constants(record(rates))
    assert rates_of(control, 8) == pytest.approx([0.3] * 3 + [1 / 3] * 3 + [0.2] * 2)


def test_the_control_reads_a_thinned_record():
    rows = record([0.3, 9.0, 0.2, 9.0, 0.1, 9.0]).rows
    every_second = Record([row for row in rows if row.get("step", 0) % 2 == 0])
    assert rates_of(transfer.three_constants(every_second), 6) == [0.3, 0.3, 0.2, 0.2, 0.1, 0.1]


def test_there_is_no_control_for_a_run_that_lacks_a_third():
    assert transfer.three_constants(record([0.1, 0.1], total=30)) is None


# ------------------------------------------------------------------------------------- tuning


def tuned(scores, **options):
    """Tune over the peaks in `scores`; return the choice and the calls that were made."""
    calls = []

    def train(method, folder, *, seed, header, peak=None, controller=None):
        calls.append((method, folder, seed, peak))
        return scores[peak]

    options = {"seed": 100, "folder": Path("tuning")} | options
    return transfer.tune(train, "cosine", list(scores), **options), calls


def test_tuning_takes_the_best_value_on_val_and_counts_every_run():
    accuracy = {0.3: 0.8, 0.1: 0.9, 0.01: 0.7}
    choice, calls = tuned({p: outcome(accuracy=a, loss=0.1) for p, a in accuracy.items()})
    assert choice == transfer.Choice(0.1, 30.0, at_edge=False, tuned=True)
    assert calls[0] == ("cosine", Path("tuning/cosine/peak-0.01"), 100, 0.01)
    assert [call[-1] for call in calls] == [0.01, 0.1, 0.3]


def test_tuning_without_accuracy_takes_the_lowest_loss_and_says_if_the_grid_is_narrow():
    choice, _ = tuned({0.1: outcome(loss=0.5), 0.3: outcome(loss=0.2), 1.0: outcome(loss=0.1)})
    assert choice == transfer.Choice(1.0, 30.0, at_edge=True, tuned=True)


def test_of_equals_the_lower_peak_wins_and_one_that_diverged_is_the_worst():
    diverged = outcome("diverged at step 3", cost=3.0, loss=float("nan"))
    scores = {
        1.0: diverged,
        0.3: outcome(accuracy=0.5, loss=1.0),
        0.1: outcome(accuracy=0.5, loss=2.0),
    }
    scores = {**scores, 0.03: outcome(accuracy=0.1, loss=2.0)}
    choice, _ = tuned(scores)
    assert choice == transfer.Choice(0.1, 33.0, at_edge=False, tuned=True)
    with pytest.raises(ValueError, match=r"cosine diverged at every peak in \[0.1, 1.0\]"):
        tuned({1.0: diverged, 0.1: diverged})


# --------------------------------------------------------------------------------- comparison


def test_the_plan_of_a_comparison(monkeypatch):
    monkeypatch.setattr(transfer, "read_record", lambda folder: record([0.1, 0.2, 0.3]))
    calls = []

    def train(method, folder, **options):
        calls.append((method, str(folder), options))
        return outcome()

    tuned = transfer.Choice(0.1, 50.0, tuned=True)
    baselines = {"cosine": tuned, "own": transfer.Choice(None)}
    origin = {"checkpoint": "abc", "meta_training_cost": 7.0, "peak": 0.2}
    done = transfer.compare(train, baselines, seeds=[4, 5], folder=Path("f"), origin=origin)
    assert len(done) == 8
    learned, control, cosine, own = calls[:4]
    header = {**origin, "tuned": False}
    assert learned == ("learned", "f/learned/seed-4", {"seed": 4, "header": header})
    assert control[:2] == ("three_constants", "f/three_constants/seed-4")
    assert control[2]["header"] == {"peak": None, "tuned": None}
    assert control[2]["controller"].parts == tuple(map(Constant, (0.1, 0.2, 0.3)))
    scale = {"search_cost_before": 50.0, "peak": 0.1, "tuned": True}
    assert cosine == ("cosine", "f/cosine/seed-4", {"seed": 4, "header": scale, "peak": 0.1})
    assert own[2]["peak"] is None
    assert own[2]["header"] == {"search_cost_before": 0.0, "peak": None, "tuned": None}
    assert [call[2]["seed"] for call in calls] == [4] * 4 + [5] * 4


def test_a_comparison_without_the_control():
    methods = []

    def train(method, folder, **options):
        methods.append(method)
        return outcome()

    transfer.compare(
        train,
        {"cosine": transfer.Choice(0.1)},
        seeds=[0],
        folder=Path("f"),
        origin={},
        control=False,
    )
    assert methods == ["learned", "cosine"]
