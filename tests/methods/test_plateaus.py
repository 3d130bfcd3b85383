"""Policies that change at plateaus: against slow twins, and what their searches leave behind."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from meta_lr.lrbench.compose import composite_of
from meta_lr.methods.policies import plateaus
from meta_lr.methods.policies.change_on_plateau import ChangeOnPlateau
from meta_lr.methods.policies.compose_on_plateau import ComposeOnPlateau
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.wrappers import Composite
from meta_lr.protocol import Need
from meta_lr.records.reader import read_record, read_rows
from meta_lr.testing.compare import difference, leaves
from meta_lr.training.loop import train
from tests.reference import change_on_plateau as slow_change
from tests.reference import compose_on_plateau as slow_compose
from tests.short_runs import steps_of
from tests.toys import Toy

PLAIN = Toy(dropout=0.0, norm=False)
TRIES = [
    Policy("fix", 0.3),
    Policy("tri", 0.01, k1=0.2, l=6),
    Policy("exp", 0.1, gamma=0.9),
    Policy("fix", 1e9),
]


def sgd(params):
    return torch.optim.SGD(params, lr=0.1, momentum=0.9)


def rates_of(folder):
    return [row["lr"] for row in steps_of(folder)]


def searched(folder, what):
    rows = read_rows(folder)
    return [row for row in rows if row["kind"] == "search" and row["what"] == what]


@pytest.mark.parametrize(
    ("values", "stalled"),
    [
        ([3.0, 2.0, 1.0], False),
        ([3.0, 2.99, 2.98], False),
        ([3.0, 2.99, 2.98, 2.97], True),
        ([3.0, 2.5, 2.5, 2.5], False),
        ([9.0, 3.0, 2.96, 2.94, 2.99], True),
        ([9.0, 3.0, 2.96, 2.94, 2.88], False),
        ([1.0, float("nan"), 1.0, 1.0], True),
    ],
)
def test_a_plateau_is_a_window_without_a_clear_fall(values, stalled):
    assert plateaus.stalls(values, 3, 0.05) == stalled


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"start": 0, "cooldown": 0},
        {"start": 2, "window": 1, "cooldown": 2, "threshold": 0.1},
        {"switch": 0.3, "cooldown": 1, "threshold": 0.3},
    ],
)
def test_changes_are_those_of_the_published_rule(tmp_path, options):
    chosen = {"start": 1, "window": 2, "threshold": 0.02, "cooldown": 1, "switch": 0.8} | options
    policies = [Policy("tri2", 0.0, k1=k1, l=7) for k1 in (0.3, 0.1, 0.03)]
    change = ChangeOnPlateau(policies, check_every=3, **chosen)
    outcome = train(PLAIN, sgd, change, total_steps=60, folder=tmp_path)
    model = PLAIN.model()
    optimizer = sgd(model.parameters())

    def measure(iteration):
        with torch.no_grad():
            return float(sum(PLAIN.loss(model, PLAIN.batch("val", i)) for i in range(2)) / 2)

    told = {name: chosen[name] for name in ("start", "threshold", "cooldown")}
    told |= {"detect": chosen["window"], "turn": chosen["switch"], "per_epoch": 3}
    slow = []
    for rate in slow_change.run([p.at for p in policies], measure, iterations=60, **told):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        PLAIN.loss(model, PLAIN.batch("train", len(slow))).backward()
        optimizer.step()
        slow.append(rate)
    assert rates_of(tmp_path) == pytest.approx(slow, rel=1e-12)
    assert outcome.state.num_changes >= 2 and len(set(slow)) > 20
    assert len(searched(tmp_path, "change")) == outcome.state.num_changes
    assert outcome.search_cost == pytest.approx(19 * 2 / 3), "two batches of val, 19 times"


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5])
def test_a_composite_is_that_of_the_slow_search(tmp_path, threshold):
    numbers = {"check_every": 4, "trial_steps": 5, "patience": 2, "threshold": threshold}
    composer = ComposeOnPlateau(TRIES, **numbers)
    outcome = train(PLAIN, sgd, composer, total_steps=50, folder=tmp_path)
    model = PLAIN.model()
    rates, parts = slow_compose.run(
        model,
        sgd(model.parameters()),
        PLAIN.loss,
        partial(PLAIN.batch, "train"),
        partial(PLAIN.batch, "val"),
        [policy.at for policy in TRIES],
        steps=50,
        check=4,
        trial=5,
        patience=2,
        threshold=threshold,
    )
    assert rates_of(tmp_path) == pytest.approx(rates, rel=1e-12)
    state = outcome.state
    assert list(zip(state.starts, state.parts, strict=True)) == parts
    assert 3 not in state.parts, "what diverges is not chosen"
    assert threshold == 0.0 or state.num_searches >= 3


def test_a_search_tries_all_from_one_point_and_its_record_says_so(tmp_path):
    composer = ComposeOnPlateau(TRIES[:3], check_every=4, trial_steps=5, patience=2, threshold=0.5)
    outcome = train(Toy(), sgd, composer, total_steps=50, folder=tmp_path)
    trials = searched(tmp_path, "trial")
    points = {
        row["step"]: {r["start"] for r in trials if r["step"] == row["step"]} for row in trials
    }
    assert all(len(starts) == 1 for starts in points.values())
    assert len({*map(tuple, points.values())}) == len(points) == outcome.state.num_searches >= 3
    per_search = {step: sum(row["step"] == step for row in trials) for step in points}
    assert per_search.pop(0) == 3 and set(per_search.values()) == {4}, "the present one too"
    choices = {row["step"]: row["policy"] for row in searched(tmp_path, "choice")}
    for step, chosen in choices.items():
        here = [row for row in trials if row["step"] == step]
        best = min(here, key=lambda row: row["loss"])
        expected = None if best["since"] < step else best["policy"]
        assert chosen == expected


def test_the_composite_alone_repeats_the_run_bit_for_bit_without_the_search(tmp_path):
    composer = ComposeOnPlateau(TRIES[:3], check_every=4, trial_steps=5, patience=2, threshold=0.5)
    found = train(Toy(), sgd, composer, total_steps=50, folder=tmp_path / "search")
    policy = composer.composite(found.state)
    assert isinstance(policy, Composite)
    rows = read_record(tmp_path / "search").searches
    assert composite_of(rows) == policy
    alone = train(Toy(), sgd, policy, total_steps=50, folder=tmp_path / "alone")
    assert rates_of(tmp_path / "alone") == rates_of(tmp_path / "search")
    assert difference(leaves(found.model.state_dict()), leaves(alone.model.state_dict())) == ""
    assert alone.search_cost == 0.0 < found.search_cost


def test_the_cost_of_a_search_is_that_of_its_trials():
    composer = ComposeOnPlateau(TRIES[:3], check_every=100, trial_steps=5, val_batches=1)
    outcome = train(Toy(), sgd, composer, total_steps=20)
    assert outcome.search_cost == pytest.approx(3 * (5 + 1 / 3))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ComposeOnPlateau([]), r"policies are \[\]; a list of at least one is needed"),
        (lambda: ComposeOnPlateau("lrPolicy_FIX+k0_0.1"), "a list of at least one is needed"),
        (
            lambda: ComposeOnPlateau(["lrPolicy_FIX+k0_0.1-lrPolicy_FIX+k0_0.2-AT-5"]),
            "no single policy",
        ),
        (
            lambda: ComposeOnPlateau([Policy("fix", 0.1, per="epoch")]),
            "no single policy that counts",
        ),
        (
            lambda: ComposeOnPlateau(TRIES, trial_steps=0),
            "got trial_steps=0; it needs a whole number",
        ),
        (
            lambda: ComposeOnPlateau(TRIES, threshold=1.0),
            r"a share of the loss, in \[0, 1\), is needed",
        ),
        (lambda: ChangeOnPlateau(TRIES, start=4), "start=4; there are 4 policies, from 0"),
        (lambda: ChangeOnPlateau(TRIES, start=-1), "got start=-1; it needs a whole number >= 0"),
        (lambda: ChangeOnPlateau(TRIES, switch=2), r"switch=2; a share of the run, in \[0, 1\]"),
        (
            lambda: ChangeOnPlateau(TRIES, window=1.5),
            "got window=1.5; it needs a whole number >= 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_an_epoch_is_only_needed_where_it_is_the_period():
    assert Need.EPOCHS in ComposeOnPlateau(TRIES).needs
    assert Need.EPOCHS not in ChangeOnPlateau(TRIES, check_every=5).needs
