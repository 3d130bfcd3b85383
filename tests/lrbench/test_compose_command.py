"""Composition beside its rivals: equal cost, equal starts, and the command."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from meta_lr.lrbench.compose import (
    CHANGED,
    COMPOSED,
    RANDOM,
    SINGLE,
    candidates,
    compose,
    random_composites,
)
from meta_lr.lrbench.known import by_policy
from meta_lr.lrbench.trainer import trainer
from meta_lr.methods.policies.change_on_plateau import ChangeOnPlateau
from meta_lr.methods.policies.compose_on_plateau import ComposeOnPlateau
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.text import from_label, label
from meta_lr.methods.wrappers import Composite
from meta_lr.records.reader import read_record, read_rows
from meta_lr.tasks import digits
from meta_lr.tasks.models import MLP
from tests.commands import outcome
from tests.short_runs import SGD

T = 48
TRIES = [Policy("fix", 0.2), Policy("fix", 0.02), Policy("tri", 0.01, k1=0.1, l=6)]
COMPOSER = ComposeOnPlateau(TRIES, trial_steps=4, check_every=4, patience=2, threshold=0.3)


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    small = partial(MLP, hidden=[16])
    train = trainer(lambda seed: digits(small, seed=seed), SGD, total_steps=T, eval_every=4)
    folder = tmp_path_factory.mktemp("composed")
    done = compose(
        train, COMPOSER, folder=folder, spent=10.0, target=0.9, search_seed=7, seeds=[0, 1]
    )
    return done, folder, train


def entry(done, name):
    (found,) = (entry for entry in done.entries if entry.name == name)
    return found


def test_the_composite_of_one_seed_is_replayed_on_the_others(composed):
    done, folder, _ = composed
    assert [one.name for one in done.entries] == [COMPOSED, SINGLE, RANDOM, CHANGED]
    ours = entry(done, COMPOSED)
    assert ours.controller is done.policy and isinstance(done.policy, Composite)
    searched = read_rows(folder / "search" / "composed")
    rates = [row["lr"] for row in searched if row["kind"] == "step"]
    for run in ours.results:
        rows = read_rows(folder / "finals" / "0" / f"seed-{run.seed}")
        assert [row["lr"] for row in rows if row["kind"] == "step"] == rates
        assert run.search_cost == 0.0 and from_label(run.policy) == done.policy
    assert ours.search_cost == searched[-1]["cost"] + 10.0


def test_rivals_are_the_best_of_what_was_tried_and_say_what_that_cost(composed):
    done, folder, train = composed
    single, random = entry(done, SINGLE), entry(done, RANDOM)
    tried = [train(p, folder / "search" / "single" / str(i), seed=7) for i, p in enumerate(TRIES)]
    assert label(single.controller) == by_policy(tried, 0.9)[0].policy
    assert single.search_cost == 3 * T + 10.0
    budget = entry(done, COMPOSED).search_cost - 10.0
    number = len(list((folder / "search" / "random").iterdir()))
    assert number == budget // T >= 1 and random.search_cost == number * T + 10.0
    changed = entry(done, CHANGED)
    assert isinstance(changed.controller, ChangeOnPlateau)
    heights = [max(p.k0, p.k1 or 0) for p in changed.controller.policies]
    assert heights == sorted(heights, reverse=True)
    assert all(run.search_cost > 0 for run in changed.results)


def test_each_run_says_its_method_and_what_came_before(composed):
    done, folder, _ = composed
    for index, one in enumerate(done.entries):
        assert [run.seed for run in one.results] == [0, 1]
        header = read_record(folder / "finals" / str(index) / "seed-0").header
        assert (header["method"], header["search_cost_before"]) == (one.name, one.search_cost)


def test_a_seed_of_the_comparison_is_not_for_the_search(composed):
    _, folder, train = composed
    with pytest.raises(ValueError, match="the search's seed 1 is one of seeds"):
        compose(train, COMPOSER, folder=folder, search_seed=1)


def test_candidates_are_families_at_three_heights():
    found = candidates(0.32, 400)
    assert {policy.kind for policy in found} == {"fix", "tri", "cos"}
    heights = sorted({policy.k0 if policy.k1 is None else policy.k1 for policy in found})
    np.testing.assert_allclose(heights, [0.02, 0.08, 0.32], rtol=1e-3)
    for policy in found:
        assert from_label(label(policy)) == policy


def test_random_composites_are_of_one_to_four_parts_and_a_function_of_the_seed():
    drawn = random_composites(COMPOSER, T, 50, seed=1)
    assert drawn == random_composites(COMPOSER, T, 50, seed=1)
    assert drawn != random_composites(COMPOSER, T, 50, seed=2)
    sizes = {len(c.parts) if isinstance(c, Composite) else 1 for c in drawn}
    assert sizes == {1, 2, 3, 4}
    starts = [start for c in drawn if isinstance(c, Composite) for start in c.boundaries]
    assert min(starts) >= 1 and max(starts) < T


def test_the_command_shows_phases_rivals_and_how_to_use_the_policy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tries = ",".join(map(label, TRIES))
    asked = ["compose", f"candidates=[{tries}]", f"total_steps={T}", "eval_every=4", "patience=2"]
    asked += ["check_every=4", "trial_steps=4", "threshold=0.3", "seeds=[0]", "model.hidden=[16]"]
    code, out, err = outcome(capsys, *asked)
    assert (code, err) == (0, "")
    assert "step 0: lrPolicy_" in out and "(3 trials from one point, " in out
    assert "NOT FROM ONE POINT" not in out
    for name in (COMPOSED, SINGLE, RANDOM):
        assert f"\n{name}: lrPolicy_" in out
    assert f"\n{CHANGED}: it chooses along each run\n" in out
    assert "| best random composite |" in out and "to use what was composed: lr=lrbench " in out
    policy = out.partition("to use what was composed: lr=lrbench lr.policy=")[2].split()[0]
    used = ["train", "lr=lrbench", f"lr.policy={policy}", f"total_steps={T}"]
    monkeypatch.setattr("meta_lr.cli.pages.page_of", lambda folder: "page")
    assert outcome(capsys, *used, "model.hidden=[16]")[0] == 0
    number = len(list(tmp_path.glob("runs/compose/**/records.jsonl")))
    assert number >= 1 + 3 + 1 + 4
    assert outcome(capsys, *asked)[1].count("was finished before") == number
