"""The search space, the search, and what is recommended in the end."""

from __future__ import annotations

import json
import sys
from functools import partial
from itertools import count

import numpy as np
import pytest

from meta_lr.extras import MissingPackageError
from meta_lr.lrbench.recommend import recommend
from meta_lr.lrbench.search import search
from meta_lr.lrbench.space import KINDS, Space
from meta_lr.lrbench.trainer import trainer, trainer_of
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.shapes import SHAPES
from meta_lr.methods.policies.text import from_label, label, overrides
from meta_lr.records.reader import read_record
from meta_lr.tasks import digits
from meta_lr.tasks.models import MLP
from meta_lr.training import loop
from meta_lr.training.outcome import StoppedError
from tests.commands import outcome
from tests.lrbench.choosers import Random
from tests.short_runs import SGD, record_of
from tests.stores import result
from tests.toys import Toy

T = 54
SPACE = Space(0.003, 0.3, T)


@pytest.fixture
def train():
    small = partial(MLP, hidden=[16])
    return trainer(lambda seed: digits(small, seed=seed), SGD, total_steps=T, eval_every=3)


# The space


@pytest.mark.parametrize("kind", SHAPES)
def test_policies_of_every_kind_stay_within_the_range_and_can_be_named(kind):
    space = Space(0.003, 0.3, 200, [kind])
    choose = Random(np.random.default_rng(0))
    drawn = [space.choose(choose) for _ in range(40)]
    assert len({label(policy) for policy in drawn}) > 30
    for policy in drawn:
        rates = np.array([policy.at(t) for t in range(200)])
        assert policy.kind == kind and rates.max() <= 0.3 * (1 + 1e-6)
        falls = kind == "sig" or policy.gamma is not None  # before or while it rises
        least = 0.05 if falls else 1 - 1e-6
        assert rates.max() > 0.003 * least and (rates > 0).all()
        if policy.k1 is not None:
            assert 1 <= policy.k1 / policy.k0 <= 100.001
        assert from_label(label(policy)) == policy
        assert overrides(label(policy)).startswith("lr=sig " if kind == "sig" else "lr=lrbench ")


@pytest.mark.parametrize("kind", ["step", "nstep", "exp", "inv", "sig"])
def test_a_decay_ends_at_a_share_of_its_height(kind):
    space = Space(0.003, 0.3, 300, [kind])
    choose = Random(np.random.default_rng(1))
    for policy in (space.choose(choose) for _ in range(40)):
        assert 0.009 < policy.at(299) / policy.at(0) < 0.55


def test_equal_seeds_choose_equal_policies():
    first, again = (Random(np.random.default_rng(3)) for _ in range(2))
    assert [SPACE.choose(first) for _ in range(9)] == [SPACE.choose(again) for _ in range(9)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k0": 0.0}, "k0=0.0, k1=0.3; the learning rates need 0 < k0 < k1"),
        ({"k0": 0.5}, "the learning rates need 0 < k0 < k1"),
        ({"kinds": ["fix", "tria"]}, "unknown policy 'tria'; choose some of: fix, step"),
        ({"kinds": []}, "no kind of policy; choose some of"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Space(**{"k0": 0.003, "k1": 0.3, "total_steps": T, **options})
    assert set(KINDS) <= set(SHAPES)


# The search


def searched(train, folder, **options):
    chosen = {"target": 0.8, "trials": 9, "halving": 3, "seed": 7, **options}
    return search(train, SPACE, folder=folder, **chosen)


def test_halving_lets_one_in_three_go_on_and_a_target_ends_a_run(train, tmp_path):
    found = searched(train, tmp_path, trials=12)
    ended = [run.status.partition(" at")[0] for run in found]
    assert set(ended) <= {"pruned", "target met", "finished"}
    pruned = [run.steps for run in found if run.status.startswith("pruned")]
    assert len(pruned) >= 4 and set(pruned) <= {6, 18}, "rungs at a ninth and a third"
    assert all(run.test_accuracy is None for run in found), "nothing is tested that is only tried"
    for run in found:
        met = run.to_target(0.8)
        assert (met is not None) == run.status.startswith("target met")
        assert met is None or met[0] == run.steps
    assert sum(run.cost for run in found) < 0.7 * 12 * T
    to_the_end = searched(train, tmp_path / "all", halving=1, target=None, trials=3)
    assert [run.status for run in to_the_end] == ["finished"] * 3


class Oracle:
    """A trainer whose runs cost nothing: the error is the distance, in decades, of k1 to 0.05."""

    total_steps = T

    def __call__(self, policy, folder, *, seed, until):
        error = min(0.9, 0.02 + abs(np.log10((policy.k1 or policy.k0) / 0.05)))
        curve = [(step, float(step), 1 - error, error) for step in range(6, T + 1, 6)]
        rows = [dict(zip(("step", "cost", "accuracy", "loss"), p, strict=True)) for p in curve]
        said = (until(rows[: n + 1]) for n in range(len(rows)))
        length, status = next(((n, w) for n, w in enumerate(said, 1) if w), (len(rows), "finished"))
        kept = {"curve": tuple(curve[:length]), "status": status, "steps": 6 * length}
        return result(seed, policy=label(policy), total_steps=T, cost=6.0 * length, **kept)


@pytest.mark.parametrize("halving", [1, 3])
def test_the_search_learns_where_the_good_ones_are(tmp_path, halving):
    found = searched(Oracle(), tmp_path, target=None, trials=50, halving=halving)
    errors = np.array([run.curve[-1].loss for run in found])
    assert errors[-20:].mean() < 0.6 * errors[:10].mean()
    assert errors.min() < 0.05


def toy(stop=lambda: False):
    def once(controller, folder, *, seed, until, test, facts):
        options = {"total_steps": 27, "eval_every": 3, "seed": seed, "until": until, "stop": stop}
        options["test"] = test
        loop.train(Toy(), SGD, controller, folder=folder, header=facts, **options)

    return trainer_of(once, Toy(), 27, None)


@pytest.mark.parametrize("asks", [1, 8, 20, 45, 70])
def test_a_search_that_is_stopped_goes_on_the_same_way(tmp_path, asks):
    options = {"target": 0.97, "trials": 8, "halving": 3, "seed": 1}
    whole = search(toy(), SPACE, folder=tmp_path / "whole", **options)
    asked = count()
    with pytest.raises(StoppedError):
        search(toy(lambda: next(asked) >= asks), SPACE, folder=tmp_path / "parts", **options)
    again = search(toy(), SPACE, folder=tmp_path / "parts", **options)
    assert [run.policy for run in again] == [run.policy for run in whole]
    for place in sorted((tmp_path / "whole").iterdir()):
        assert record_of(tmp_path / "parts" / place.name) == record_of(place)
    assert len({run.steps for run in whole}) > 1, "some were pruned, and some were not"


def test_without_optuna_it_says_what_to_install(train, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'meta_lr\[search\]'"):
        searched(train, tmp_path)


# The recommendation


def test_the_best_of_the_search_and_of_the_known_are_compared_to_their_ends(train, tmp_path):
    known_best = Policy("fix", 0.08)
    curve = tuple((3 * n, 3.0 * n, 0.9, 0.3) for n in range(1, 19))
    worse = curve[-1:]
    known = [
        result(0, policy=label(known_best), curve=curve, total_steps=T),
        result(0, policy="a network", curve=curve, total_steps=T),
        result(0, policy="lrPolicy_FIX+k0_0.001", curve=(), total_steps=T),
        result(
            0, policy="lrPolicy_FIX+k0_0.002", curve=worse, total_steps=T, status="diverged at 9"
        ),
    ]
    options = {"target": 0.8, "trials": 6, "finalists": 2, "seeds": (0, 1), "search_seed": 7}
    done = recommend(train, SPACE, folder=tmp_path, known=known, **options)
    policies = [one.policy for one in done.ranked]
    assert label(known_best) in policies and len(policies) == 3
    assert [one.rank for one in done.ranked] == sorted(one.rank for one in done.ranked)
    for one in done.ranked:
        assert [run.seed for run in one.results] == [0, 1]
        assert all(run.steps == T and run.test_accuracy is not None for run in one.results)
    assert done.finals_cost == 3 * 2 * T
    assert done.search_cost == sum(run.cost for run in done.found) and len(done.found) == 6
    assert {run.seed for run in done.found} == {7}


def test_known_policies_alone_may_be_compared(train, tmp_path):
    known = [result(0, policy="lrPolicy_FIX+k0_0.1", curve=((3, 3.0, 0.9, 0.3),), total_steps=T)]
    done = recommend(train, SPACE, folder=tmp_path, known=known, trials=0, seeds=[0])
    assert [one.policy for one in done.ranked] == ["lrPolicy_FIX+k0_0.1"] and not done.found
    with pytest.raises(ValueError, match="nothing to recommend: no policy is known"):
        recommend(train, SPACE, folder=tmp_path, trials=0)
    with pytest.raises(ValueError, match="the search's seed 1 is one of seeds"):
        recommend(train, SPACE, folder=tmp_path, search_seed=1)
    wild = Space(1e8, 1e9, T, ["fix"])
    with pytest.raises(ValueError, match="every run of the search diverged; lower k1"):
        recommend(train, wild, folder=tmp_path / "wild", trials=2)


def test_the_command_finds_the_range_searches_compares_and_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = [
        "recommend",
        "target=0.8",
        "trials=4",
        "finalists=1",
        "seeds=[0,1]",
        "model.hidden=[16]",
    ]
    asked += [
        "robustness=true",
        "range.total_steps=60",
        "range.low=1e-3",
        "total_steps=36",
        "eval_every=4",
    ]
    code, out, err = outcome(capsys, *asked)
    assert (code, err) == (0, "")
    (folder,) = tmp_path.glob("runs/recommend/*")
    assert "rates worth a try: " in out and (folder / "range" / "range.json").exists()
    assert "spent: " in out and "(4 trials)" in out and "72 on the comparison" in out
    first = next(line for line in out.splitlines() if line.startswith("1. lrPolicy_"))
    assert f"lr=lrbench lr.policy={first.removeprefix('1. ')}" in out
    assert "0.8 met" in out and "val accuracy 0." in out and "val - train " in out
    assert len(list((folder / "search").iterdir())) == 4
    assert (folder / "report" / "report.html").exists()
    (final,) = (folder / "finals").glob("*/seed-1")
    header = read_record(final).header
    assert (header["command"], header["seed"], header["policy"]) == ("recommend", 1, first[3:])
    code, again, _ = outcome(capsys, *asked)
    assert code == 0 and again.count("was finished before") == 1 + 4 + 2 + 4
    assert "\nrobustness of the first: -" in out and " 5 and 10 times its rates; " in out
    _, listed, _ = outcome(capsys, "results", "--json")
    probed = [row for row in json.loads(listed) if row["robustness"] is not None]
    assert [row["policy"] for row in probed] == [first[3:]]
    assert f"the first: {100 * probed[0]['robustness']:+.1f} points" in out
    assert [line for line in again.splitlines() if "lrPolicy" in line and "seed" not in line] == [
        line for line in out.splitlines() if "lrPolicy" in line and "seed" not in line
    ], "what the store has learned meanwhile changes nothing"


def test_what_the_store_knew_at_first_is_what_counts_when_it_is_repeated(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    small = ["total_steps=36", "eval_every=4", "seeds=[0]", "model.hidden=[16]"]
    verified = ["verify", "target=0.99", "gives_up=false", *small]
    assert outcome(capsys, *verified, "lr=fix", "lr.k0=0.15")[0] == 4
    asked = ["recommend", "k0=0.001", "k1=0.004", "trials=2", "finalists=1", *small]
    first = outcome(capsys, *asked)
    assert "knew 1 run of this problem" in first[1]
    assert "\n1. lrPolicy_FIX+k0_0.15\n" in first[1] and "\n2. lrPolicy_" in first[1]
    assert outcome(capsys, *verified, "lr=fix", "lr.k0=0.2")[0] == 4
    again = outcome(capsys, *asked)
    assert again[1].count("was finished before") == 2 + 2
    assert again[1].partition("spent: ")[2] == first[1].partition("spent: ")[2]
    alone = ["recommend", "trials=0", *small]
    code, out, _ = outcome(capsys, *alone)
    assert code == 0 and "range" not in out.partition("spent: ")[0]
    assert "spent: 0 steps on the range, 0 on the search (0 trials)" in out
