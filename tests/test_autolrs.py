"""AutoLRS along a run: what its options do, how it fails, stops and goes on."""

from __future__ import annotations

import importlib.util
import math
import random
import weakref
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from meta_lr.baselines import autolrs_forecast as forecasts
from meta_lr.baselines.autolrs import PUBLISHED, AutoLRS
from meta_lr.baselines.autolrs_forecast import Forecast
from meta_lr.baselines.compose import Wrapper
from meta_lr.baselines.policies import Constant
from meta_lr.cli.places import conf_dir
from meta_lr.protocol import Controller, Need
from meta_lr.tasks.quadratic import Quadratic
from meta_lr.testing.compare import difference, leaves
from meta_lr.training.loop import STATE, StoppedError, train
from meta_lr.training.record import finished, read_rows
from meta_lr.training.sandbox import InterruptedExperimentError, Sandbox, Trial
from meta_lr.training.scheduler import ControlledLR
from tests.killing import kill, record, start, timeless
from tests.toys import Toy
from tests.training import SGD, ends, record_of, steps_of, stop_when

SHORT = AutoLRS(1e-3, 1.0, tau=20, tau_max=40, trials=4, initial=3)
NOISELESS = Quadratic(noise=0.0, condition=10.0)  # best at 2 / (1 + 1 / 10), unstable from 2 on
BEST = 2 / 1.1
PLAIN = partial(torch.optim.SGD, lr=0.1)


def run(controller, steps=60, task=NOISELESS, optimizer=PLAIN, **options):
    """Train; return the outcome, the notes of each stage, and the rates of the steps."""
    rows = []
    outcome = train(task, optimizer, controller, total_steps=steps, listener=rows.append, **options)
    notes = [row for row in rows if row["kind"] == "search"]
    stages = [
        [note for note in notes if note["stage"] == stage]
        for stage in range(getattr(outcome.state, "num_stages", 0))
    ]
    return outcome, stages, [row["lr"] for row in rows if row["kind"] == "step"]


# What it finds


@pytest.mark.parametrize("search", ["gp", "gp_published", "grid", "random"])
def test_the_best_rate_of_a_quadratic_is_found(search):
    """At the best rate each step is worth 0.82 of the error; at a third of it, 0.94 of it."""
    controller = AutoLRS(1e-2, 100.0, tau=40, tau_max=40, ratio=4, search=search, max_fall=None)
    outcome, (notes, *_), rates = run(controller, steps=40)
    assert outcome.status == "finished"
    assert BEST / 3 < rates[0] < 2.0
    assert [note["trial"] for note in notes] == list(range(10))
    assert min(abs(math.log(note["rate"] / BEST)) for note in notes) < math.log(3)
    constant, _, _ = run(Constant(rates[0] / 4), steps=40)
    assert outcome.val["loss"] < constant.val["loss"]


def test_a_stage_holds_its_rate_and_each_trial_starts_where_the_stage_does():
    outcome, stages, rates = run(SHORT, steps=100, task=Toy(), optimizer=SGD)
    assert [notes[0]["step"] for notes in stages] == [0, 20, 60]
    assert [len(set(rates[a:b])) for a, b in ((0, 20), (20, 60), (60, 100))] == [1, 1, 1]
    for notes, rate in zip(stages, (rates[0], rates[20], rates[60]), strict=True):
        assert len({note["start"] for note in notes}) == 1
        assert rate in [note["rate"] for note in notes]
    assert len({notes[0]["start"] for notes in stages}) == 3
    assert [notes[0]["steps"] for notes in stages] == [2, 4, 4]
    assert outcome.state.num_trials == 12
    # four forward passes for the limit, then the trials, whose validations are 4 batches each
    per_stage = [4 / 3 + 4 * steps for steps in (2, 4, 4)]
    assert outcome.search_cost == pytest.approx(sum(per_stage) + 4 * 4 / 3)


def test_the_seed_decides():
    task = Toy()
    notes = [run(replace(SHORT, seed=seed), task=task, steps=20)[1] for seed in (0, 0, 1)]
    assert notes[0] == notes[1] != notes[2]


def test_without_lengths_they_follow_from_the_run_s_and_the_last_stage_ends_with_it():
    scaled = replace(SHORT, tau=None, tau_max=None, trials=1, initial=1)
    assert scaled.needs == Need.TRIALS | Need.HORIZON and SHORT.needs == Need.TRIALS
    scaled = replace(scaled, ratio=2)
    for total, begins in ((95, [0, 40]), (110, [0, 40, 80]), (420, [0, 40, *range(92, 400, 52)])):
        outcome, stages, _ = run(scaled, steps=total)
        assert [notes[0]["step"] for notes in stages] == begins
        assert outcome.state.end == total


def test_no_forecast_looks_beyond_a_run_of_known_length(monkeypatch):
    asked = []
    monkeypatch.setattr(forecasts, "robust", lambda *given: asked.append(given[2]) or Forecast(1.0))
    run(replace(SHORT, tau=None, trials=1, initial=1, ratio=1, look=3.0), steps=90)
    assert asked == [3 * 20, 70, 30]
    asked.clear()
    run(replace(SHORT, trials=1, initial=1, look=3.0), steps=90)
    assert asked == [3 * 20, 3 * 40, 3 * 40]


def test_a_warm_up_comes_first():
    _, stages, rates = run(replace(SHORT, warmup_steps=5, warmup_lr=0.2), steps=26)
    assert rates[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    assert [notes[0]["step"] for notes in stages] == [5, 25]


# Its options


def test_the_file_of_the_paper_s_mode_has_the_published_options():
    def options(name):
        text = (conf_dir() / "lr" / f"{name}.yaml").read_text(encoding="utf-8")
        given = yaml.safe_load(text) | {"seed": 0}
        return AutoLRS(**{key: value for key, value in given.items() if key != "_target_"})

    assert options("autolrs_paper") == AutoLRS(1e-3, 0.1, **PUBLISHED)
    assert options("autolrs") == AutoLRS(1e-3, 0.1, tau=None, tau_max=None), "our defaults"


ALSO = ("tau", "tau_max", "ratio", "trials", "max_fall", "max_rise")  # have tests of their own
SWITCHES = {name: value for name, value in PUBLISHED.items() if name not in ALSO}
OURS = AutoLRS(1e-3, 30.0, tau=20, tau_max=20, ratio=3, trials=5, initial=3, keep=0.3)


def took(controller):
    """What a short run on noisy data tried, what was forecast, its rates, and their cost."""
    outcome, stages, rates = run(controller, steps=40, task=Toy(batch_size=4), optimizer=SGD)
    tried = [(note["rate"], note["forecast"]) for notes in stages for note in notes]
    return tried, rates, outcome.search_cost


@pytest.fixture(scope="module")
def by_default():
    return took(OURS)


@pytest.mark.parametrize("name", SWITCHES)
def test_each_option_of_ours_can_be_switched_off_by_itself(by_default, name):
    assert took(replace(OURS, **{name: SWITCHES[name]})) != by_default


def test_the_model_remembers_one_stage():
    kept, forgets = (run(replace(SHORT, keep=keep), steps=80)[0].state for keep in (1.0, None))
    assert len(kept.known) == 4 and forgets.known == ()


def test_a_large_fall_of_the_rate_asks_for_evidence():
    """Trials of one step see the noise of the step fall, and nothing of what a rate will reach."""
    greedy = AutoLRS(1e-4, 1.0, tau=10, tau_max=10, search="grid", choose="forecast", look=1.0)
    greedy = replace(greedy, max_rise=None)
    task = Quadratic(noise=3.0)
    free, held = (run(replace(greedy, max_fall=fall), 50, task)[2] for fall in (None, 4.0))
    falls = [before / after for before, after in zip(held, held[10:], strict=False)]
    assert max(falls) <= 4.0 < max(a / b for a, b in zip(free, free[10:], strict=False))


@pytest.mark.parametrize("search", ["gp", "grid", "random"])
def test_a_large_rise_of_the_rate_is_not_tried(search):
    low = AutoLRS(1e-3, 10.0, tau=10, tau_max=10, search=search, trials=5, initial=2)
    largest = []
    for factor in (2.0, None):
        _, stages, rates = run(replace(low, max_rise=factor), 40, Toy(), SGD)
        before = rates[9:30:10]
        tried = [max(note["rate"] for note in notes) for notes in stages[1:]]
        largest.append(max(new / old for new, old in zip(tried, before, strict=True)))
    assert largest[0] == pytest.approx(2.0) or largest[0] < 2.0
    assert largest[1] > 2.5


def test_trials_see_the_same_batches_or_their_own():
    for common, count in ((True, 3), (False, 12)):
        seen = set()

        class Watched(Toy):
            def batch(self, split, index, draw=None, seen=seen):
                if split == "train" and draw is not None:
                    seen.add(draw)
                return super().batch(split, index, draw)

        controller = replace(SHORT, common_batches=common, stop_above=None, ratio=7)
        run(controller, steps=20, task=Watched())
        draws = seen - ({0} if not common else set())
        expected = {0, 1} if common else {i * 3 + j for i in range(4) for j in range(2)} - {0}
        assert draws == expected, count


# Trials that fail


def test_failed_trials_stop_early_and_are_never_chosen():
    controller = AutoLRS(1e-2, 1e4, tau=40, tau_max=40, ratio=2, search="grid", trials=7)
    outcome, (notes, *_), rates = run(controller, steps=40)
    failed = [note for note in notes if note["failed"]]
    assert [note["rate"] for note in failed] == pytest.approx([10.0, 100.0, 1e3, 1e4])
    assert all(note["steps"] < 5 and note["forecast"] is None for note in failed)
    assert all(note["steps"] == 20 for note in notes if not note["failed"])
    assert outcome.state.num_failed == 4 and rates[0] == pytest.approx(1.0)


def test_without_a_limit_they_run_on_and_are_told_as_a_penalty():
    published = PUBLISHED | {"tau": 40, "tau_max": 40, "ratio": 1}
    outcome, (notes,), rates = run(AutoLRS(1e-2, 1e8, **published), steps=42)
    failed = [note for note in notes if note["failed"]]
    assert failed and all(note["steps"] >= 40 for note in failed)
    assert outcome.status == "finished" and rates[1] < 2.0


def test_if_all_fail_the_smallest_rate_is_taken():
    controller = AutoLRS(1e3, 1e6, tau=20, tau_max=20, trials=3, search="grid")
    _, (notes,), rates = run(controller, steps=1)
    assert all(note["failed"] for note in notes)
    assert rates == [1e3]


def test_a_loss_that_is_no_number_fails():
    class Broken(Quadratic):
        def loss(self, model, batch):
            loss = super().loss(model, batch)
            return loss * (math.nan if model.weight.norm() > 50.0 else 1.0)

    controller = replace(SHORT, max_lr=1e4, search="grid", ratio=4)
    outcome, _, _ = run(controller, task=Broken(condition=10.0))
    assert outcome.status == "finished" and outcome.state.num_failed >= 2


# No trace, and going on


@dataclass(frozen=True)
class Discarded(Wrapper):
    """Searches, and then takes a constant rate."""

    inner: Controller
    rate: float = 0.05

    def __call__(self, view, state):
        return self.rate, self.inner(view, state)[1]


def test_a_search_whose_result_is_discarded_leaves_no_trace():
    plain = train(Toy(), SGD, Constant(0.05), total_steps=50, clip=1.0)
    searched = train(Toy(), SGD, Discarded(SHORT), total_steps=50, clip=1.0)
    assert searched.search_cost > 0.0
    trained = [leaves(outcome.model.state_dict()) for outcome in (plain, searched)]
    assert difference(*trained) == "" and plain.test == searched.test


@pytest.mark.parametrize("asks", [1, 7, 13])
def test_a_search_that_is_interrupted_begins_anew(tmp_path, asks):
    """At the losses of the start, in a trial, in the second stage."""
    go = partial(train, Toy(), SGD, SHORT, total_steps=50, eval_every=25)
    whole = go(folder=tmp_path / "whole")
    with pytest.raises(StoppedError) as stopped:
        go(folder=tmp_path / "parts", stop=stop_when(asks, asker="loss_of"))
    assert stopped.value.step == (0 if asks < 12 else 20)
    assert difference(ends(whole), ends(go(folder=tmp_path / "parts"))) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


@pytest.mark.parametrize("death", [3, 20])
def test_a_run_that_dies_in_a_search_goes_on_from_its_last_save(tmp_path, monkeypatch, death):
    go = partial(train, Toy(), SGD, SHORT, total_steps=70, save_every=15)
    whole = go(folder=tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trial, "step", dies_at(death))
        go(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(go(folder=tmp_path / "parts"))) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def dies_at(death):
    """A trial's step that is interrupted at the so-many-th of them all."""
    count, step = iter(range(death)), Trial.step

    def dying(trial, rate):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return step(trial, rate)

    return dying


def test_a_run_stops_and_goes_on_in_the_middle_of_a_stage(tmp_path):
    go = partial(train, Toy(), SGD, SHORT, total_steps=50)
    whole = go(folder=tmp_path / "whole")
    for count in (7, 20):
        with pytest.raises(StoppedError):
            go(folder=tmp_path / "parts", stop=stop_when(count))
    again = go(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    searches = [row["step"] for row in read_rows(tmp_path / "parts") if row["kind"] == "search"]
    assert searches == [0] * 4 + [20] * 4, "nothing was searched twice"
    assert [row["step"] for row in steps_of(tmp_path / "parts")] == list(range(50))


def test_there_is_at_most_one_copy_at_a_time():
    living, most = weakref.WeakSet(), []

    class Counting(torch.nn.Linear):
        def forward(self, x):
            living.add(self)
            most.append(len(living))
            return super().forward(x)

    class Task(Toy):
        def model(self):
            return Counting(6, 3)

    task = Task()
    model = task.model()
    optimizer = SGD(model.parameters())
    sandbox = Sandbox(model, optimizer, task.loss, task.batch)
    scheduler = ControlledLR(optimizer, replace(SHORT, tau_max=20), sandbox=sandbox)
    for step in range(41):
        task.loss(model, task.batch("train", step)).backward()
        optimizer.step()
    assert scheduler.state_dict()["state"]["num_stages"] == 3
    assert max(most) == 2 and len(most) > 40


# In a loop of one's own


def test_a_stop_in_one_s_own_loop_leaves_all_as_it_was():
    task, stopped = Toy(), [False]
    model = task.model()
    optimizer = SGD(model.parameters())
    sandbox = Sandbox(model, optimizer, task.loss, task.batch, stop=lambda: stopped[0])
    scheduler = ControlledLR(optimizer, SHORT, sandbox=sandbox)
    task.loss(model, task.batch("train", 0)).backward()
    parts = (model, optimizer, scheduler)
    before = leaves([part.state_dict() for part in parts])
    stopped[0] = True
    with pytest.raises(InterruptedExperimentError):
        optimizer.step()
    assert difference(before, leaves([part.state_dict() for part in parts])) == ""
    stopped[0] = False
    optimizer.step()
    assert scheduler.last_epoch == 1


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[1] / "examples" / "autolrs_plain_loop.py"
    spec = importlib.util.spec_from_file_location("autolrs_plain_loop", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FORKS = pytest.mark.filterwarnings("ignore:.*use of fork")  # its DataLoader has workers


@FORKS
def test_the_example_s_run_is_the_same_without_the_searches(example, tmp_path):
    few = replace(example.AUTOLRS, trials=3, initial=3)
    plain = example.run(tmp_path / "plain", Constant(0.05), steps=45)
    searched = example.run(tmp_path / "searched", Discarded(few), steps=45)
    assert searched["cost"] > plain["cost"] == 0.0
    for part in ("model", "optimizer", "scaler"):
        assert difference(leaves(plain[part]), leaves(searched[part])) == ""


@FORKS
def test_the_example_goes_on_after_an_interruption_in_a_search(example, tmp_path, monkeypatch):
    few = replace(example.AUTOLRS, trials=3, initial=3)
    whole = example.run(tmp_path / "whole", few, steps=45)
    for death in (5, 14):  # in the first search, and, run anew, in the second
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trial, "step", dies_at(death))
            example.run(tmp_path / "parts", few, steps=45)
    again = example.run(tmp_path / "parts", few, steps=45)
    assert difference(leaves(whole), leaves(again)) == ""


# What is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_lr": 0.0}, "min_lr=0.0, max_lr=1.0; it needs 0 < min_lr < max_lr"),
        ({"min_lr": 2.0}, "min_lr=2.0, max_lr=1.0; it needs 0 < min_lr < max_lr"),
        ({"max_lr": math.inf}, "max_lr=inf; it needs 0 < min_lr < max_lr"),
        ({"tau": 0}, "tau=0, tau_max=40; it needs 1 <= tau <= tau_max, in steps, or null"),
        ({"tau": 50}, "tau=50, tau_max=40; it needs 1 <= tau <= tau_max"),
        ({"trials": 0}, "trials=0; it needs a whole number >= 1"),
        ({"kappa": -1.0}, "kappa=-1.0; it needs a finite number >= 0"),
        ({"look": 0.5}, "look=0.5; it needs a finite number >= 1"),
        ({"keep": 0.0}, "keep=0.0; it needs a finite number > 0, or null"),
        ({"max_fall": 0.5}, "max_fall=0.5; it needs a finite factor > 1, or null"),
        ({"max_rise": 1.0}, "max_rise=1.0; it needs a finite factor > 1, or null"),
        ({"warmup_steps": 3}, "warmup_steps=3, warmup_lr=0.0; it needs steps >= 0 and, for a rise"),
        ({"search": "bo"}, "search='bo'; it needs one of gp, gp_published, grid, random"),
        ({"steps": "wrong"}, "steps='wrong'; it needs one of exact, published"),
    ],
)
def test_unusable_options_are_refused(options, said):
    with pytest.raises(ValueError, match=r"^AutoLRS got ") as error:
        replace(SHORT, **options)
    assert said in str(error.value)


def test_without_a_sandbox_or_a_length_it_says_what_to_pass():
    optimizer = SGD([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match=r"AutoLRS needs training steps on a copy: pass sandbox="):
        ControlledLR(optimizer, SHORT)
    scaled = replace(SHORT, tau=None)
    with pytest.raises(ValueError, match=r"the length of the run: pass .* and total_steps="):
        ControlledLR(optimizer, scaled)


# The command

COMMAND = [
    *("train", "task=digits", "model=resnet8", "optimizer=adam", "total_steps=60", "threads=1"),
    *("lr=autolrs", "lr.min_lr=1e-4", "lr.max_lr=0.03", "lr.tau=30", "lr.tau_max=30"),
    *("lr.ratio=5", "lr.trials=6", "save_every=10", "eval_every=30"),
]


@pytest.mark.slow
def test_a_command_that_is_killed_in_its_searches_ends_as_if_nothing_had_happened(tmp_path):
    """Two of three seconds are spent in a search, in which the record does not grow."""
    draw, whole, parts = random.Random(0), tmp_path / "whole", tmp_path / "parts"
    for place in (whole, parts):
        place.mkdir()
    for _ in range(4):
        kill(parts, COMMAND, lines=draw.randint(1, 12), seconds=draw.uniform(0.0, 0.5))
        assert not finished(record(parts).parent)
    for place in (parts, whole):
        with start(place, COMMAND) as process:
            assert process.wait() == 0
    states = [
        torch.load(record(place).parent / STATE, weights_only=True) for place in (whole, parts)
    ]
    for state in states:
        del state["seconds"], state["search_seconds"], state["offset"]
    assert states[0]["state"]["num_stages"] == 2
    assert difference(*map(leaves, states)) == ""
    assert timeless(parts) == timeless(whole)
