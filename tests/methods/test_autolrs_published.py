"""AutoLRS as published does the same, step by step, as the authors' two programs at their sizes.

The losses, the forecasts and the rates to try are scripted: nothing is trained, and no Gaussian
process is fitted. The step numbers below are from a run of the two programs with this script.
"""

import math
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from meta_lr.methods.autolrs import paper
from meta_lr.methods.autolrs.paper import AutoLRSPaper
from meta_lr.methods.autolrs.stages import Stage
from meta_lr.protocol import HostLoss, StepView
from tests.reference import autolrs as twin

STEPS = 46_200  # five stages, one of which validates, and the first steps of the sixth
OLD = 0.5  # the rate before the first search
FIRST = 10.0  # the first loss
BAD = range(32_410, 33_210)  # the steps of a trial that validates badly: the fourth of its stage


def loss_at(step, lr):
    """Return the training loss of a step: another one at each step and at each rate."""
    return FIRST if step == 0 else 1.0 + 1e-6 * step + 0.1 * math.log(lr / 0.02) ** 2


def val_loss_at(step):
    return FIRST + 1e-6 * step if step in BAD else 2.0 + 1e-6 * step


def place(stage, trial):
    """Return where the rate of a trial lies: all of a stage are different."""
    return ((7 * trial + 3 * stage) % 10 + 0.5) / 10


class World:
    """Counts all steps, of the run and of trials; writes down what happens after which of them."""

    def __init__(self):
        self.step, self.lr = 0, OLD
        self.rates, self.events, self.windows = [], [], []

    def train(self, lr):
        loss = loss_at(self.step, lr)
        self.rates.append(lr)
        self.step += 1
        return loss

    def say(self, word):
        self.events.append((self.step - 1, word))

    def validate(self):
        self.say("evaluate")
        return val_loss_at(self.step - 1)

    def forecast(self, losses, at):
        self.windows.append((list(losses), at))
        return math.fsum(losses) / len(losses)


class Script(World):
    """A training script, as far as the twin's client sees it."""

    def __init__(self):
        super().__init__()
        self.saved = OLD
        self.act = SimpleNamespace(
            step=lambda: self.train(self.lr),
            set_lr=lambda lr: setattr(self, "lr", lr),
            save=lambda: setattr(self, "saved", self.lr),
            restore=lambda: setattr(self, "lr", self.saved),
            evaluate=lambda: val_loss_at(self.step - 1),
        )


class ScriptedSandbox(World):
    """What the controller sees: a trial begins with a copy, and a note ends the search."""

    def __init__(self):
        super().__init__()
        self.rate, self.word = OLD, "ckpt"

    @contextmanager
    def trial(self, draw):
        self.say(self.word)
        self.word = "restore"
        yield SimpleNamespace(
            step=self.train,
            val_loss=lambda count, drawn: self.validate(),
            train_losses=lambda count: [0.0] * count,
            fingerprint=str,
        )

    def note(self, **facts):
        if "chosen" in facts:
            self.say("restore")
            self.word = "ckpt"


@pytest.fixture(scope="module")
def theirs():
    """What the twin of the published programs does."""
    script = Script()
    server = twin.Server(1e-3, 1.0, random=None)
    server.ask = lambda: place(server.stage, len(server.places))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "forecast", lambda losses, at, **_: script.forecast(losses, at))
        script.events = twin.client(server, STEPS, script.act)
    return script


@pytest.fixture(scope="module")
def ours():
    """What our controller does, for as many steps or a few more."""
    world, controller = ScriptedSandbox(), AutoLRSPaper(1e-3, 1.0)
    state, step = controller.init(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            paper.Bayesian, "ask", lambda self, told: place(self.state.num_stages, len(told))
        )
        patch.setattr(paper, "published", lambda losses, at, **_: world.forecast(losses, at))
        while world.step < STEPS:
            loss = HostLoss(loss_at(world.step, OLD), torch.float64)
            lr, state = controller(StepView(controller, step, loss=loss, sandbox=world), state)
            world.train(lr)
            step += 1
    return world


def steps_of(world, word):
    return [step for step, said in world.events if said == word]


def test_the_twin_saves_and_restores_where_the_published_programs_do(theirs):
    assert steps_of(theirs, "ckpt") == [0, 2003, 6005, 14007, 30009, 46011]
    assert steps_of(theirs, "save") == [2002, 6004, 14006, 30008, 46010]
    trials = zip((0, 2003, 6005, 14007, 30009), (100, 200, 400, 800, 800), strict=True)
    ends = [[begin + (begin == 0) + trial * i for i in range(1, 11)] for begin, trial in trials]
    assert ends[0] == list(range(101, 1002, 100)) and ends[4][:2] == [30809, 31609]
    assert steps_of(theirs, "restore") == [step for stage in ends for step in stage]


def test_the_twin_validates_where_the_published_programs_do(theirs):
    """Their counter begins each trial at 1, so the last validation is one step before its end."""
    first = list(range(30_058, 30_809, 50))
    assert len(first) == 16 and first[-1] == 30_808
    all_ten = [step + 800 * trial for trial in range(10) for step in first]
    assert steps_of(theirs, "evaluate") == [*all_ten, 46_060, 46_110, 46_160]


def test_ours_begins_trials_and_stages_and_validates_at_the_same_steps(ours, theirs):
    expected = [event for event in theirs.events if event[1] != "save"]
    assert [event for event in ours.events if event[0] < STEPS] == expected


def test_ours_takes_the_same_rates(ours, theirs):
    rates = theirs.rates
    assert ours.rates[:STEPS] == rates
    changes = [step for step, (lr, after) in enumerate(pairwise(rates), 1) if lr != after]
    assert changes[:5] == [1, 102, 103, 202, 203], "one step at the rate before"
    assert rates[102] == rates[202] == OLD != rates[103]
    held = rates[2003]
    assert rates[1003:2005] == [held] * 1002, "1,001 steps, and the first of the next trial"
    assert len(set(rates)) == 11, "all rates of the ten trials, and the one before"


def test_ours_forecasts_from_the_same_losses(ours, theirs):
    windows = theirs.windows
    assert ours.windows[:49] == windows
    assert len(windows) == 49, "ten trials in each of five stages, but for the bad one"
    sizes = [(len(losses), at) for losses, at in windows[::10]]
    assert sizes == [(100, 1000), (200, 2000), (400, 4000), (800, 8000), (16, 160)]
    lrs = theirs.rates
    assert windows[0][0] == [loss_at(step, lrs[step]) for step in range(2, 102)]
    assert windows[1][0] == [loss_at(step, lrs[step]) for step in range(102, 202)]
    assert windows[10][0] == [loss_at(step, lrs[step]) for step in range(2004, 2204)]
    assert windows[40][0] == [val_loss_at(step) for step in range(30_058, 30_809, 50)]


@pytest.mark.parametrize(("trial", "period", "count"), [(100, 6, 16), (60, 3, 20), (47, 2, 23)])
def test_all_validations_of_a_trial_count_also_where_there_are_more_than_sixteen(
    trial, period, count
):
    """In trials of 47 steps a step before the next multiple of the period is the last: too late."""
    stage = Stage(10 * trial, trial, period)
    expected = list(range(period - 1, trial, period))
    assert len(expected) == stage.num_validations == count
    seen = []
    for taken in range(1, trial + 1):
        if stage.validates(taken, len(seen)):
            seen.append(taken)
    assert seen == expected
    server = twin.Server(1e-3, 1.0, random=None, tau=10 * trial, tau_max=10 * trial)
    server.ask = lambda: 0.5
    server.next_stage()
    assert server.ring.maxlen == count and server.val_freq == period
    server.begin_stage()
    server.count = 1
    said = [server.answer("loss,1.0") for _ in range(trial - 1)]
    assert [step for step, word in enumerate(said, 1) if word == "evaluate"] == expected
