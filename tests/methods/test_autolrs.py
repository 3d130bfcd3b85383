"""AutoLRS along a run: what its options do, how it fails, stops and goes on."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.autolrs.grid import Start
from meta_lr.methods.autolrs.method import AutoLRS
from meta_lr.methods.autolrs.paper import AutoLRSPaper, Bayesian
from meta_lr.methods.autolrs.round import AutoLRSState, Told
from meta_lr.methods.autolrs.stages import Stage
from meta_lr.methods.basic import Constant
from meta_lr.protocol import Need, StepView
from meta_lr.tasks.quadratic import Quadratic
from meta_lr.training.loop import train
from meta_lr.training.sandbox import Trial
from tests.controllers import SHORT
from tests.short_runs import SGD
from tests.toys import Toy

NOISELESS = Quadratic(noise=0.0, condition=10.0)  # best at 2 / (1 + 1 / 10), unstable from 2 on
BEST = 2 / 1.1
PLAIN = partial(torch.optim.SGD, lr=0.1)
PAPER = AutoLRSPaper(1e-3, 1.0, tau=20, tau_max=20, trials=4)


def run(controller, steps=60, task=NOISELESS, optimizer=PLAIN, **options):
    """Train; return the outcome, the notes on each stage's trials, and the rates of the steps."""
    rows = []
    outcome = train(task, optimizer, controller, total_steps=steps, listener=rows.append, **options)
    notes = [row for row in rows if row["kind"] == "search" and "trial" in row]
    stages = [
        [note for note in notes if note["stage"] == stage]
        for stage in range(getattr(outcome.state, "num_stages", 0))
    ]
    return outcome, stages, [row["lr"] for row in rows if row["kind"] == "step"]


@pytest.fixture
def tried(monkeypatch):
    """The rates of all steps of trials."""
    rates, step = [], Trial.step
    monkeypatch.setattr(Trial, "step", lambda trial, rate: rates.append(rate) or step(trial, rate))
    return rates


# What it finds


@pytest.mark.parametrize(
    "controller",
    [
        AutoLRS(1e-2, 100.0, tau=40, ratio=1, first_trials=10, cooldown=0.0, ramp=False),
        AutoLRSPaper(1e-2, 100.0, tau=40, tau_max=40, ratio=1),
    ],
)
def test_the_best_rate_of_a_quadratic_is_found(controller):
    """At the best rate each step is worth 0.82 of the error; at a third of it, 0.94 of it."""
    outcome, (notes, *_), rates = run(controller, steps=40)
    assert outcome.status == "finished"
    assert BEST / 3 < rates[2] < 2.0
    assert [note["trial"] for note in notes] == list(range(10))
    assert min(abs(math.log(note["rate"] / BEST)) for note in notes) < math.log(3)
    constant, _, _ = run(Constant(rates[2] / 4), steps=40)
    assert outcome.val["loss"] < constant.val["loss"]


def test_each_trial_is_heard_of_as_it_ends_and_then_recorded_with_what_was_chosen():
    rows, known = [], []

    class Watched(Toy):
        def batch(self, split, index, draw=None):
            known.append(sum(row["kind"] == "searching" for row in rows))
            return super().batch(split, index, draw)

    train(Watched(), SGD, SHORT, total_steps=1, listener=rows.append)
    heard = [row for row in rows if row["kind"] == "searching"]
    kept = [row for row in rows if row["kind"] == "search"]
    assert rows[0]["kind"] == "header" and {0, 1, 2, 3} <= set(known)
    assert [row | {"kind": "search"} for row in heard] == kept
    assert [row.get("trial") for row in kept] == [0, 1, 2, 3, None]
    rates = [row["rate"] for row in kept[:-1]]
    assert min(rates) <= kept[-1]["chosen"] <= max(rates) and len(kept[-1]["errors"]) == 4


def test_a_stage_holds_its_rate_and_each_trial_starts_where_the_stage_does():
    outcome, stages, rates = run(SHORT, steps=100, task=Toy(), optimizer=SGD)
    assert [notes[0]["step"] for notes in stages] == [0, 20, 60]
    assert [len(set(rates[a:b])) for a, b in ((0, 20), (20, 60), (60, 100))] == [1, 1, 1]
    for notes, rate in zip(stages, (rates[0], rates[20], rates[60]), strict=True):
        assert len({note["start"] for note in notes}) == 1
        assert notes[0]["rate"] <= rate <= notes[-1]["rate"]
    assert len({notes[0]["start"] for notes in stages}) == 3
    assert [notes[0]["steps"] for notes in stages] == [2, 4, 4]
    assert outcome.state.num_trials == 12
    # four forward passes for the limit; then the trials, with two forward passes after each
    per_stage = [4 / 3 + 4 * (steps + 2 / 3) for steps in (2, 4, 4)]
    assert outcome.search_cost == pytest.approx(sum(per_stage))


@pytest.mark.parametrize("method", [SHORT, PAPER])
def test_the_seed_decides(method):
    task = Toy()
    rates = [run(replace(method, seed=seed), task=task, steps=40)[2] for seed in (0, 0, 1)]
    assert rates[0] == rates[1] != rates[2]


def test_without_lengths_they_follow_from_the_run_s_and_the_last_stage_ends_with_it():
    scaled = replace(SHORT, tau=None, tau_max=None, trials=1)
    assert scaled.needs == Need.TRIALS | Need.HORIZON and SHORT.needs == Need.TRIALS
    for total, begins in (
        (100, [0, 10, 30, 70]),
        (30, [0, 3, 9, 21]),
        (94, [0, 9, 27, 63]),
    ):
        outcome, stages, _ = run(scaled, steps=total)
        assert [notes[0]["step"] for notes in stages] == begins
        assert outcome.state.end == total


def test_the_rate_falls_to_zero_in_the_end_of_the_run_and_of_each_trial(tried):
    falling = AutoLRS(1e-3, 1.0, 20, shortest=8, ratio=5, trials=1, first_trials=1, cooldown=0.25)
    assert falling.needs == Need.TRIALS | Need.HORIZON
    outcome, stages, rates = run(falling, steps=80, task=Toy())
    assert [notes[0]["step"] for notes in stages] == [0, 20], "none once the rate falls"
    assert outcome.state.end == 80 and len(set(rates[20:60])) == 1
    assert rates[60:] == pytest.approx([rates[20] * (20 - i) / 21 for i in range(20)])
    assert rates[:20] == pytest.approx([rates[19] * (i + 1) / 20 for i in range(20)]), "it rises"
    shape = [*[1] * 4, 0.8, 0.6, 0.4, 0.2]
    assert tried[:8] == pytest.approx([rates[19] * factor for factor in shape])
    assert tried[8] == rates[20] and min(tried[9:]) == pytest.approx(rates[19] / 2 / 5)


def test_all_trials_of_a_later_stage_end_alike(tried):
    def second(**options):
        """Return the rates of the three trials of the second stage, ten steps each."""
        tried.clear()
        _, (_, notes, *_), _ = run(replace(method, **options), steps=80, task=Toy())
        assert [note["steps"] for note in notes] == [10, 10, 10]
        return [tried[-30 + start :][:10] for start in (0, 10, 20)]

    method = AutoLRS(1e-3, 10.0, 20, ratio=4, shortest=10, first_trials=3)
    low, middle, high = second()
    assert (low[0], high[0]) == pytest.approx((middle[0] / 2, middle[0] * 2))
    assert (
        low[5:]
        == middle[5:]
        == high[5:]
        == pytest.approx([low[0] * i / 6 for i in range(5, 0, -1)])
    )
    for trial in second(max_change=None, max_lr=1.0):
        assert trial[5:] == pytest.approx([trial[0] * i / 6 for i in range(5, 0, -1)])


def test_the_default_plan():
    method = AutoLRS(1e-3, 0.1)
    plans = [
        method._plan(StepView(method, step, total_steps=3000), AutoLRSState(num_stages=index))
        for index, step in enumerate((0, 300, 900))
    ]
    assert plans == [Stage(300, 40, 0), Stage(600, 50, 0), Stage(2100, 100, 0)]


def test_a_warm_up_may_reach_into_the_fall_at_the_end():
    warm = replace(SHORT, cooldown=0.5, warmup_steps=30, warmup_lr=0.5)
    outcome, (notes,), rates = run(warm, steps=40, task=Toy(), optimizer=SGD)
    assert notes[0]["step"] == 30 and outcome.state.num_stages == 1
    assert rates[29] == 0.5 and rates[39] == pytest.approx(rates[30] / 10)


@pytest.mark.parametrize(
    ("method", "second"),  # and the step at which its second stage begins
    [(replace(SHORT, tau_max=20, batches=3), 20), (replace(PAPER, val_batches=3), 23)],
)
def test_only_stages_after_the_first_long_one_read_the_validation_loss(method, second):
    for steps, draws in ((second, set()), (second + 1, {0, 1, 2})):
        seen = set()

        class Watched(Toy):
            def batch(self, split, index, draw=None, seen=seen):
                seen.add((split, draw))
                return super().batch(split, index, draw)

        run(method, steps=steps, task=Watched())
        assert {draw for split, draw in seen if split == "val"} - {None} == draws


def test_the_first_stage_has_trials_of_its_own_number():
    _, stages, _ = run(replace(SHORT, first_trials=7), steps=61)
    assert [len(notes) for notes in stages] == [7, 4, 4]


def test_no_trial_is_shorter_than_that():
    _, stages, _ = run(replace(SHORT, shortest=3), steps=61)
    assert [notes[0]["steps"] for notes in stages] == [3, 4, 4]


def test_a_warm_up_comes_first():
    _, stages, rates = run(replace(SHORT, warmup_steps=5, warmup_lr=0.2), steps=26)
    assert rates[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    assert [notes[0]["step"] for notes in stages] == [5, 25]


@pytest.mark.parametrize("warmup", [{}, {"warmup_steps": 5, "warmup_lr": 0.2}])
def test_the_first_stage_rises_from_where_the_warm_up_has_ended(warmup):
    outcome, _, rates = run(replace(SHORT, ramp=True, **warmup), steps=46)
    base, begin = warmup.get("warmup_lr", 0.0), warmup.get("warmup_steps", 0)
    first, chosen = rates[begin : begin + 20], rates[begin + 19]
    assert first == pytest.approx([base + (chosen - base) * (i + 1) / 20 for i in range(20)])
    assert rates[begin + 20 :] == [outcome.state.chosen] * (26 - begin)


# Its options


SWITCHES = {"anneal": 0.0, "ramp": False, "cooldown": 0.0}
OURS = AutoLRS(1e-3, 30.0, tau=20, tau_max=20, ratio=3, shortest=1, trials=5)
OURS = replace(OURS, cooldown=0.25)  # of 40 steps, two stages


def took(controller):
    """What a short run on noisy data tried, what was forecast, its rates, and their cost."""
    outcome, stages, rates = run(controller, steps=40, task=Toy(batch_size=4), optimizer=SGD)
    tried = [(note["rate"], note["loss"]) for notes in stages for note in notes]
    return tried, rates, outcome.search_cost


@pytest.fixture(scope="module")
def by_default():
    return took(OURS)


@pytest.mark.parametrize("name", SWITCHES)
def test_each_option_of_ours_can_be_switched_off_by_itself(by_default, name):
    assert took(replace(OURS, **{name: SWITCHES[name]})) != by_default


def test_the_next_stage_tries_rates_near_the_last_one_s():
    wide = replace(SHORT, min_lr=1e-4, max_lr=10.0, tau=10, tau_max=10)
    largest = []
    for factor in (2.0, None):
        _, stages, rates = run(replace(wide, max_change=factor), 30, Toy(), SGD)
        tried = [[math.log(note["rate"]) for note in notes] for notes in stages[1:]]
        before = map(math.log, rates[9:20:10])
        largest.append(max(abs(x - y) for y, row in zip(before, tried, strict=True) for x in row))
    assert largest[0] <= math.log(2.0) + 1e-9 and largest[1] > math.log(2.5)


@pytest.mark.parametrize(
    ("method", "draws"),  # 0 also says how large a batch is
    [
        (replace(SHORT, stop_above=None, batches=1), {0, 1, 2}),  # two steps, and the loss after
        (PAPER, {0, 1, 2, 3, 4, 6, 7, 9, 10}),  # the first of four trials takes a step more
    ],
)
def test_trials_see_the_same_batches_or_as_published_their_own(method, draws):
    seen = set()

    class Watched(Toy):
        def batch(self, split, index, draw=None):
            if split == "train" and draw is not None:
                seen.add(draw)
            return super().batch(split, index, draw)

    run(method, steps=20, task=Watched())
    assert seen == draws


# Trials that fail


def test_failed_trials_stop_early_and_are_never_chosen():
    controller = AutoLRS(1e-2, 1e4, tau=40, ratio=2, shortest=20, first_trials=7)
    controller = replace(controller, cooldown=0.0, ramp=False)
    outcome, (notes, *_), rates = run(controller, steps=40)
    failed = [note for note in notes if note["failed"]]
    assert [note["rate"] for note in failed] == pytest.approx([10.0, 100.0, 1e3, 1e4])
    assert all(note["steps"] < 5 and note["loss"] is None for note in failed)
    assert all(note["steps"] == 20 for note in notes if not note["failed"])
    assert outcome.state.num_failed == 4 and rates[0] == pytest.approx(1.0)


def test_without_a_limit_they_run_on_and_are_told_as_a_penalty():
    controller = AutoLRSPaper(1e-2, 1e8, tau=40, tau_max=40, ratio=1)
    outcome, (notes,), rates = run(controller, steps=42)
    failed = [note for note in notes if note["failed"]]
    assert failed and all(note["steps"] >= 40 for note in failed)
    assert outcome.status == "finished" and rates[1] < 2.0


def test_if_all_fail_the_smallest_rate_is_taken():
    controller = AutoLRS(1e3, 1e6, tau=20, shortest=20, ramp=False)
    _, (notes,), rates = run(controller, steps=1)
    assert all(note["failed"] for note in notes)
    assert rates == [1e3]


def test_what_failed_is_far_above_this_stage_and_the_first():
    """Of a network that has learned, a few hard examples are far above the mean."""
    learned, fresh = Start(0.01, 0.02), Start(2.3, 0.1)
    assert learned.limit(3.0, first=2.3) == 2.3
    assert learned.limit(3.0, first=0.02) == pytest.approx(0.01 + 3 * 0.02)
    assert fresh.limit(3.0, first=2.3) == pytest.approx(4 * 2.3)
    assert Start(-5.0, 0.1).limit(3.0, first=-5.0) == pytest.approx(-5.0 + 3 * 5.0)


def test_the_first_stage_s_loss_is_remembered():
    outcome, stages, _ = run(SHORT, steps=60, task=Toy(), optimizer=SGD)
    first, _, _ = run(SHORT, steps=1, task=Toy(), optimizer=SGD)
    assert len(stages) > 1 and outcome.state.first_loss == first.state.first_loss > 0.0


def test_a_loss_that_is_no_number_fails():
    class Broken(Quadratic):
        def loss(self, model, batch):
            loss = super().loss(model, batch)
            return loss * (math.nan if model.weight.norm() > 50.0 else 1.0)

    controller = replace(SHORT, max_lr=1e4, ratio=4)
    outcome, _, _ = run(controller, task=Broken(condition=10.0))
    assert outcome.status == "finished" and outcome.state.num_failed >= 2


@pytest.mark.parametrize("stop_above", [None, 3.0])
def test_a_large_unit_of_the_loss_is_no_failure(stop_above):
    class Large(Quadratic):
        def loss(self, model, batch):
            return 1e12 * super().loss(model, batch)

    task, optimizer = Large(noise=0.0, condition=10.0), partial(torch.optim.SGD, lr=1e-13)
    controller = AutoLRS(1e-14, 1e-12, tau=20, shortest=20, stop_above=stop_above)
    outcome, (notes, *_), _ = run(controller, steps=30, task=task, optimizer=optimizer)
    assert outcome.status == "finished"
    assert not any(note["failed"] for note in notes)


def test_of_trials_with_the_same_loss_the_first_is_chosen():
    """As published."""
    search = Bayesian(PAPER, None, AutoLRSState(), Stage(20, 2, 0), 0.1)
    assert search.best([Told(0.9, 2.0), Told(0.6, 1.0), Told(0.3, 1.0)]) == 0.6


# What is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_lr": 0.0}, "min_lr=0.0, max_lr=1.0; it needs 0 < min_lr < max_lr"),
        ({"min_lr": 2.0}, "min_lr=2.0, max_lr=1.0; it needs 0 < min_lr < max_lr"),
        ({"max_lr": math.inf}, "max_lr=inf; it needs 0 < min_lr < max_lr"),
        ({"tau": 0}, "tau=0, tau_max=40; it needs 1 <= tau <= tau_max, in steps, or null"),
        ({"tau": 50}, "tau=50, tau_max=40; it needs 1 <= tau <= tau_max"),
        ({"shortest": 21}, "tau=20, shortest=21; it needs a first stage that is no shorter than"),
        ({"trials": 0}, "trials=0; it needs a whole number >= 1"),
        ({"first_trials": 0}, "first_trials=0; it needs a whole number >= 1, or null"),
        ({"cooldown": 1.0}, "cooldown=1.0; it needs a part of the run: a number in [0, 1)"),
        ({"anneal": 1.0}, "anneal=1.0; it needs a part of a trial: a number in [0, 1)"),
        ({"stop_above": 0.0}, "stop_above=0.0; it needs a finite number > 0, or null"),
        ({"max_change": 1.0}, "max_change=1.0; it needs a finite factor > 1, or null"),
        (
            {"warmup_steps": 3},
            "warmup_steps=3, warmup_lr=0.0; it needs steps >= 0 and, for a warm-up",
        ),
    ],
)
def test_unusable_options_are_refused(options, said):
    with pytest.raises(ValueError, match=r"^AutoLRS got ") as error:
        replace(SHORT, **options)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_lr": 2.0}, "min_lr=2.0, max_lr=1.0; it needs 0 < min_lr < max_lr"),
        ({"tau": 50}, "tau=50, tau_max=20; it needs 1 <= tau <= tau_max, in steps"),
        ({"ratio": 20}, "tau=20, ratio=20; it needs trials of two steps or more"),
        ({"ratio": 0}, "ratio=0; it needs a whole number >= 1"),
        ({"kappa": -1.0}, "kappa=-1.0; it needs a finite number >= 0"),
    ],
)
def test_unusable_options_of_the_published_version_are_refused(options, said):
    with pytest.raises(ValueError, match=r"^AutoLRSPaper got ") as error:
        replace(PAPER, **options)
    assert said in str(error.value)


def test_without_a_sandbox_or_a_length_it_says_what_to_pass():
    optimizer = SGD([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match=r"AutoLRS needs training steps on a copy: pass sandbox="):
        ControlledLR(optimizer, SHORT)
    scaled = replace(SHORT, tau=None)
    with pytest.raises(ValueError, match=r"the length of the run: pass .* and total_steps="):
        ControlledLR(optimizer, scaled)
