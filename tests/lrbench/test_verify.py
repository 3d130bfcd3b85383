"""Whether a policy reaches a target: only as long a training as it takes, and what does better."""

from __future__ import annotations

from functools import partial

import pytest

from meta_lr.lrbench.known import by_policy, stored
from meta_lr.lrbench.store import Store
from meta_lr.lrbench.trainer import trainer, trainer_of
from meta_lr.lrbench.verify import UntilDecided, verify
from meta_lr.methods.policies.formula import Policy
from meta_lr.records.reader import read_record
from meta_lr.tasks import Quadratic, digits
from meta_lr.tasks.models import MLP
from meta_lr.training import loop
from meta_lr.training.outcome import StoppedError
from tests.commands import outcome
from tests.short_runs import SGD, record_of
from tests.stores import result
from tests.toys import Toy

FAST, SLOW, WILD = Policy("fix", 0.1), Policy("fix", 1e-5), Policy("fix", 1e9)


@pytest.fixture
def train():
    small = partial(MLP, hidden=[16])
    return trainer(lambda seed: digits(small, seed=seed), SGD, total_steps=60, eval_every=3)


def last_steps(folder):
    return [read_record(place).end["steps"] for place in sorted(folder.iterdir())]


def test_a_run_stops_when_its_target_is_met(train, tmp_path):
    verdict = verify(train, FAST, target=0.7, seeds=[0, 1], folder=tmp_path)
    assert verdict.met and None not in verdict.reached
    for run, at in zip(verdict.results, verdict.reached, strict=True):
        assert run.status == f"target met at step {at[0]}" and run.steps == at[0] < 60
        assert run.curve[-1].accuracy >= 0.7 > max(p.accuracy for p in run.curve[:-1])
        assert run.test_accuracy is None, "nobody has asked for the report"
    assert verdict.cost == sum(last_steps(tmp_path)) < 120
    assert verdict.saved == (120 - verdict.cost, 0)


def test_a_run_without_hope_stops_half_way_and_says_so(train, tmp_path):
    verdict = verify(train, SLOW, target=0.9, seeds=[0, 1], folder=tmp_path / "gives up")
    assert not verdict.met and verdict.reached == (None, None)
    assert last_steps(tmp_path / "gives up") == [30, 30]
    said = verdict.results[0].status
    assert said.startswith("hopeless at step 30: at best 0.") and said.endswith(" by step 60")
    assert verdict.saved == (0, 60)
    patient = verify(
        train, SLOW, target=0.9, seeds=[0], folder=tmp_path / "patient", gives_up=False
    )
    assert patient.results[0].status == "finished" and patient.cost == 60


def test_one_seed_that_misses_is_enough_and_a_run_that_diverged_misses(train, tmp_path):
    verdict = verify(train, WILD, target=0.05, seeds=[0], folder=tmp_path)
    assert not verdict.met and verdict.results[0].diverged
    assert not UntilDecided(0.5, 60)([{"step": 3, "cost": 3.0, "accuracy": 0.4, "loss": 1.0}])


def test_a_loss_is_a_target_where_there_is_no_accuracy(tmp_path):
    train = trainer(lambda seed: Quadratic(seed=seed), SGD, total_steps=60, eval_every=3)
    easy = verify(train, FAST, target=1e3, seeds=[0], folder=tmp_path / "easy")
    assert easy.met and easy.reached[0] == (3, 3.0)
    hard = verify(train, SLOW, target=1e-9, seeds=[0], folder=tmp_path / "hard")
    assert not hard.met and hard.results[0].status.startswith("hopeless at step 30: at best ")
    below = verify(train, FAST, target=-1.0, seeds=[0], folder=tmp_path / "below")
    assert not below.met and below.results[0].status.startswith("hopeless")


def test_an_impossible_target_is_refused(train, tmp_path):
    with pytest.raises(ValueError, match="the target 70 is no accuracy"):
        verify(train, FAST, target=70, seeds=[0], folder=tmp_path)


def test_stopped_and_resumed_it_comes_to_the_same(tmp_path):
    def make(stop):
        def once(controller, folder, *, seed, until, test, facts):
            options = {"total_steps": 40, "eval_every": 2, "seed": seed, "until": until}
            loop.train(Toy(), SGD, controller, folder=folder, header=facts, stop=stop, **options)

        return trainer_of(once, Toy(), 40, None)

    options = {"target": 0.99, "seeds": [0, 1]}
    whole = verify(make(lambda: False), FAST, folder=tmp_path / "whole", **options)
    count = iter(range(10_000))
    with pytest.raises(StoppedError):
        verify(make(lambda: next(count) >= 31), FAST, folder=tmp_path / "parts", **options)
    again = verify(make(lambda: False), FAST, folder=tmp_path / "parts", **options)
    assert again.reached == whole.reached and again.cost == whole.cost
    for seed in (0, 1):
        name = f"seed-{seed}"
        assert record_of(tmp_path / "parts" / name) == record_of(tmp_path / "whole" / name)


# What is known


def curve(*values):
    return tuple((10 * n, 10.0 * n, value, 1 - value) for n, value in enumerate(values, start=1))


PROBLEM = {"task": "digits", "model": "MLP", "optimizer": "sgd_momentum"}
QUICK = {"policy": "lrPolicy_FIX+k0_0.5", **PROBLEM, "curve": curve(0.95)}
GOOD = {"policy": "lrPolicy_FIX+k0_0.3", **PROBLEM, "curve": curve(0.2, 0.5, 0.8)}
NAMES = {QUICK["policy"]: "quick", GOOD["policy"]: "good"}


def named(number):
    return {"policy": f"lrPolicy_FIX+k0_{number}"}


def names(better):
    return [NAMES[known.policy] for known in better if known.policy in NAMES]


def test_better_policies_are_named_from_the_store(train, tmp_path):
    with Store(tmp_path / "store") as store:
        with_store = trainer(
            lambda seed: digits(partial(MLP, hidden=[16]), seed=seed),
            SGD,
            total_steps=60,
            eval_every=3,
            store=store,
        )
        others = [
            result(0, total_steps=60, **QUICK, steps=10, cost=10.0),
            result(0, total_steps=60, **GOOD),
            result(0, total_steps=60, **{**QUICK, **named(1), "model": "LeNet"}),
            result(0, total_steps=600, **{**QUICK, **named(2)}),
            result(0, total_steps=60, **{**QUICK, **named(3)}, scale=5.0),
            result(0, total_steps=60, **{**QUICK, **named(4)}, setting="abc"),
            result(0, total_steps=60, **{**QUICK, "policy": "a network"}),
        ]
        store.put(others)
        options = {"seeds": [0], "target": 0.9}
        missed = verify(with_store, SLOW, folder=tmp_path / "slow", **options)
        assert names(missed.better) == ["quick"]
        met = verify(with_store, FAST, folder=tmp_path / "fast", target=0.6, seeds=[0])
        assert met.met and met.cost > 10
        assert names(met.better) == ["quick"], "good is dearer"
        beyond = verify(with_store, SLOW, folder=tmp_path / "beyond", seeds=[0], target=0.999)
        assert names(beyond.better) == ["quick", "good"]
        policies = {run.policy for run in store.find(task="digits", model="MLP")}
        assert {"lrPolicy_FIX+k0_0.1", "lrPolicy_FIX+k0_1e-05"} <= policies


def test_policies_are_ranked_by_cost_then_accuracy_then_loss_difference():
    def run(policy, values, *, seed=0, **fields):
        return result(seed, policy=policy, curve=curve(*values), **fields)

    results = [
        run("late", [0.1, 0.9, 0.9]),
        run("early", [0.9, 0.9, 0.7]),
        run("half", [0.9, 0.9, 0.9]),
        run("half", [0.9, 0.1, 0.1], seed=1, status="diverged at step 30"),
        run("never, but near", [0.1, 0.1, 0.8]),
        run("never", [0.1, 0.1, 0.1], val_loss=1.0, train_loss=0.5),
        run("never, overfitted", [0.1, 0.1, 0.1], val_loss=2.0, train_loss=0.5),
        run("never, unknown", [0.1, 0.1, 0.1]),
    ]
    ranked = by_policy(results, 0.9)
    assert [known.policy for known in ranked] == [
        *("early", "late", "never, but near"),
        *("never", "never, overfitted", "never, unknown", "half"),
    ]
    assert (ranked[0].cost_to_target, ranked[0].steps_to_target) == (10.0, 10.0)
    assert ranked[-1].results[1].seed == 1
    assert next(known.policy for known in by_policy(results)) == "late", "by what is reached"


def test_what_ended_early_for_another_target_does_not_tell():
    def run(policy, values, steps=30, **fields):
        return result(0, policy=policy, curve=curve(*values), total_steps=steps, **fields)

    stopped = run("stopped", [0.2, 0.6], status="target met at step 20")
    hopeless = run("hopeless", [0.2, 0.3], status="hopeless at step 20: at best 0.4 by step 30")
    ended = run("ended", [0.2, 0.3, 0.4])
    short = run("grows", [0.2], steps=10)
    long = run("grows", [0.2, 0.6, 0.9])
    ranked = by_policy([stopped, hopeless, ended, short, long], 0.8)
    assert [(known.policy, known.tells, known.met) for known in ranked] == [
        *(("grows", True, True), ("ended", True, False)),
        *(("stopped", False, False), ("hopeless", False, False)),
    ]
    assert ranked[0].results == (long,)
    lower = by_policy([stopped, ended], 0.5)
    assert [(known.policy, known.met) for known in lower] == [("stopped", True), ("ended", False)]


def test_stored_results_are_those_of_the_problem_within_the_budget(tmp_path):
    with Store(tmp_path / "store") as store:
        store.put([result(0, total_steps=n, **QUICK) for n in (50, 60, 70)])
        found = stored(store, **PROBLEM, setting="", budget=60)
        assert [run.total_steps for run in found] == [50, 60]


# The command


ASKED = ["total_steps=60", "eval_every=3", "seeds=[0,1]", "model.hidden=[16]"]


def test_the_command_answers_with_evidence_and_exit_codes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = outcome(capsys, "verify", "target=0.7", "lr=fix", "lr.k0=0.1", *ASKED)
    assert (code, err) == (0, "")
    assert "met: lrPolicy_FIX+k0_0.1 reaches 0.7 on val of digits, mlp, sgd_momentum\n" in out
    assert "within 60 steps with 2 of 2 seeds\n  to know it cost " in out
    assert " saved where it was met, 0 where there was no hope\n" in out
    assert "  seed 0: met at step " in out and "  seed 1: met at step " in out
    (folder,) = tmp_path.glob("runs/verify/*")
    assert (folder / "target.png").read_bytes().startswith(b"\x89PNG")
    assert "val accuracy" in (folder / "target.svg").read_text()
    wild = ["verify", "task=quadratic", "target=1e-3", "lr=fix", "lr.k0=1e9", "seeds=[0]"]
    code, out, err = outcome(capsys, *wild, "total_steps=9", "eval_every=1")
    assert (code, err) == (4, "") and "  seed 0: not met: diverged at step " in out
    missing = ["verify", "target=0.9", "lr=fix", "lr.k0=1e-5", *ASKED]
    code, out, err = outcome(capsys, *missing)
    assert (code, err) == (4, "")
    assert "not met: lrPolicy_FIX+k0_1e-05 reaches 0.9" in out
    assert out.count("not met: hopeless at step 30: at best 0.") == 2
    assert "cost 60 steps of 120: 0 saved where it was met, 60 where there was no hope\n" in out
    assert "others in the store" not in out, "the other run ended at a lower target: who knows"
    lower = ["verify", "target=0.6", *missing[2:]]
    code, out, _ = outcome(capsys, *lower)
    assert code == 4 and "others in the store:\n  lrPolicy_FIX+k0_0.1: met at cost " in out
    assert "\n    lr=lrbench lr.policy=lrPolicy_FIX+k0_0.1\n" in out
    again = outcome(capsys, *missing)
    assert again[0] == 4 and again[1].count("was finished before") == 2
