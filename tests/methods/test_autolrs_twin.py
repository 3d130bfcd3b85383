"""AutoLRS as published takes the steps and the rates of the authors' two programs."""

import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

from meta_lr.methods.autolrs.forecast import published
from meta_lr.methods.autolrs.paper import AutoLRSPaper
from meta_lr.methods.autolrs.stages import stage
from meta_lr.methods.wrappers import Wrapper
from meta_lr.protocol import Controller
from meta_lr.seeds import derive
from meta_lr.tasks.quadratic import Quadratic
from meta_lr.training.loop import train
from meta_lr.training.sandbox import Trial
from tests.reference import autolrs as twin

MOMENTUM = partial(torch.optim.SGD, lr=0.07, momentum=0.9)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random(seed, stage, trial):
    return np.random.RandomState(derive(seed, "autolrs", stage, trial) % 2**32)


class Script:
    """A training script, as far as the twin's client sees it; it writes down its rates."""

    def __init__(self, task, server):
        self.task, self.server = task, server
        self.model = task.model()
        self.optimizer = MOMENTUM(self.model.parameters())
        self.number, self.trial, self.drawn, self.rates = 0, None, 0, []

    def step(self):
        if self.trial is None:
            batch = self.task.batch("train", self.number)
            self.number += 1
        else:
            first = self.trial * (self.server.tau_prime + 1)
            batch = self.task.batch("train", self.number, first + self.drawn)
            self.drawn += 1
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        self.optimizer.zero_grad()
        loss = self.task.loss(self.model, batch)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def set_lr(self, lr):
        self.optimizer.param_groups[0]["lr"] = lr

    def save(self):
        self.saved = copy.deepcopy((self.model.state_dict(), self.optimizer.state_dict()))
        self.trial, self.drawn = 0, 0

    def restore(self):
        model, optimizer = copy.deepcopy(self.saved)
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        self.trial, self.drawn = self.trial + 1, 0
        if self.trial == self.server.k:
            self.trial = None

    def evaluate(self):
        with torch.no_grad():
            return float(self.task.loss(self.model, self.task.batch("val", self.number, 0)))


@dataclass(frozen=True)
class Written(Wrapper):
    """Writes down the rates of the run's own steps."""

    inner: Controller

    def __call__(self, view, state):
        rate, state = self.inner(view, state)
        RATES.append(rate)
        return rate, state


RATES = []


@pytest.fixture
def rates(monkeypatch):
    """All rates of our runs in order, those of trials included."""
    step = Trial.step
    RATES.clear()

    def written(trial, rate):
        RATES.append(rate)
        return step(trial, rate)

    monkeypatch.setattr(Trial, "step", written)
    return RATES


CASES = {  # name: (number of stages, options); trials that validate have 48 steps or more
    "a warm-up, training losses and the released kappa": (
        3,
        {"tau": 40, "tau_max": 160, "k": 3, "kappa": 1e6, "warmup_steps": 7, "warmup_lr": 0.3},
    ),
    "two trials that validate": (2, {"tau": 480, "tau_max": 480, "k": 2}),
}
SLOW = {
    "twenty validations in each of five trials": (4, {"tau": 300, "tau_max": 600, "k": 5}),
    # over 10 s: five stages of ten trials each, and a Gaussian process for each trial
    "ten trials, five stages": (5, {"tau": 130, "tau_max": 520, "k": 10}),
}


@pytest.mark.parametrize(
    "name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_the_rates_of_all_steps_are_those_of_the_twin(rates, name):
    num_stages, changed = (CASES | SLOW)[name]
    options = {"kappa": 1000.0, "warmup_steps": 0, "warmup_lr": 0.0} | changed
    tau, tau_max, k, kappa = (options[key] for key in ("tau", "tau_max", "k", "kappa"))
    warmup = {key: options[key] for key in ("warmup_steps", "warmup_lr")}
    ours = {"tau": tau, "tau_max": tau_max, "trials": k, "kappa": kappa}
    controller = AutoLRSPaper(1e-3, 1.0, **ours | warmup, seed=3)
    task = Quadratic(noise=0.3)
    taus = [stage(index, tau, tau_max).tau for index in range(num_stages)]
    num_steps = 1 + warmup["warmup_steps"] + sum(tau + 2 for tau in taus)
    outcome = train(task, MOMENTUM, Written(controller), total_steps=num_steps)
    assert outcome.status == "finished" and outcome.state.num_stages == len(taus)

    server = twin.Server(1e-3, 1.0, partial(random, 3), tau=tau, tau_max=tau_max, k=k, kappa=kappa)
    script = Script(task, server)
    heard = twin.client(server, len(rates), script, **warmup)
    assert server.stage == len(taus) and server.validates, "the next stage has just begun"
    validates = stage(num_stages - 1, tau, tau_max).period > 0
    assert ("evaluate" in {word for _, word in heard}) == validates
    assert len(set(rates)) > 2 * k, "the stages have rates of their own"
    assert script.rates == rates, "the rate of each step, to the last bit"
    assert script.number == num_steps


class Falling:
    """A loss that falls the faster the nearer the rate is to 0.02."""

    def __init__(self):
        self.rates, self.lr, self.level, self.saved = [], 0.5, 2.0, 2.0

    def step(self):
        self.rates.append(self.lr)
        self.level -= 1e-4 * self.level / (1 + np.log(self.lr / 0.02) ** 2)
        return float(self.level)

    def set_lr(self, lr):
        self.lr = lr

    def save(self):
        self.saved = self.level, self.lr

    def restore(self):
        self.level, self.lr = self.saved


def test_the_twin_speaks_as_the_published_programs_do():
    """Their trace: restores after 101, 201, ... 901, and 1001; save after 2002, ckpt after 2003."""
    script = Falling()
    server = twin.Server(1e-3, 1.0, partial(random, 0), kappa=1000.0)
    heard = twin.client(server, 2205, script)
    restores = [(step, "restore") for step in range(101, 1002, 100)]
    expected = [(0, "ckpt"), *restores, (2002, "save"), (2003, "ckpt"), (2203, "restore")]
    assert heard == expected
    rates, before = script.rates, 0.5
    first, second, held, later = rates[1], rates[103], rates[1003], rates[2005]
    assert len({first, second, later, before}) == 4
    assert rates[:102] == [before] + [first] * 101
    assert rates[102:202] == [before] + [second] * 99, "the first step of a trial is wrong"
    assert rates[1002:2004] == [before] + [held] * 1001, "and so is the first of those held"
    assert rates[2004:2204] == [held] + [later] * 199


def test_the_plan_of_stages_is_the_published_one():
    plan = [stage(index, 1000, 8000) for index in range(6)]
    assert [part.trial for part in plan] == [100, 200, 400, 800, 800, 800]
    assert [part.tau for part in plan] == [1000, 2000, 4000, 8000, 8000, 8000]
    assert [part.period for part in plan] == [0, 0, 0, 0, 50, 50]
    ends = np.cumsum([10 * part.trial + part.tau for part in plan])
    assert ends.tolist()[:5] == [2000, 6000, 14000, 30000, 46000]
    assert stage(0, 100, 100).period == 0 and stage(1, 100, 100).period == 1  # 10 // 16


TIMES = np.arange(100.0)
CURVES = {
    "a slow one": (2 * np.exp(-0.01 * TIMES) + 0.5, 0.385),
    "a fast one": (2 * np.exp(-0.05 * TIMES) + 0.5, 0.400),
    "one that rises": (np.linspace(1.0, 2.0, 100), 11.1),
    "one that stays": (np.ones(100), 1.0),
}


@pytest.mark.parametrize("name", CURVES)
def test_forecasts_are_those_measured_with_the_published_code(name):
    losses, expected = CURVES[name]
    assert published(losses, 1000) == pytest.approx(expected, abs=5e-4 * max(1, expected))
    of_twin = twin.forecast(losses, 1000, passes=10, share=0.03)
    assert of_twin == pytest.approx(published(losses, 1000), rel=1e-6)


NOISY = {  # length, losses that are too high, step of the forecast: what the published code says
    "losses that are too high around the middle": (
        100,
        [20, *range(47, 53)],
        1000,
        0.20039548205665522,
    ),
    "a longer one": (800, range(395, 405), 8000, 0.3366280010917054),
    "validation, an outlier in the first half": (16, [6], 160, 0.35440100055645385),
    "validation, an outlier past the seventh": (16, [7], 160, 0.2239651579076521),
    "twenty validations": (20, [9], 200, 0.26056063484905506),
}


@pytest.mark.parametrize("name", NOISY)
def test_noisy_series_are_forecast_as_by_the_published_code(name):
    count, outliers, at, expected = NOISY[name]
    times = np.arange(float(count))
    losses = 1.5 * np.exp(-2 * times / count) + 0.4 + 0.05 * np.sin(times**2)
    losses[list(outliers)] += 0.3
    validates = count < 100
    options = {"passes": 1, "share": None} if validates else {"passes": 10, "share": 0.03}
    assert published(losses, at, validates=validates) == pytest.approx(expected, rel=1e-6)
    assert twin.forecast(losses, at, **options) == pytest.approx(expected, rel=1e-6)


def test_the_spread_of_forecasts_is_that_measured_with_the_published_code():
    slow = 2 * np.exp(-0.01 * TIMES) + 0.5
    found = []
    for seed in range(30):
        noise = 0.05 * np.random.RandomState(seed).standard_normal(100)
        found.append(published(slow + noise, 1000))
    assert np.mean(found) == pytest.approx(0.454, abs=0.06)
    assert np.std(found) == pytest.approx(0.179, abs=0.05)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("validates", [False, True])
def test_short_series_are_forecast_alike(count, validates):
    losses = (1.0 + 0.2 * np.random.RandomState(count).standard_normal(count)).tolist()
    options = {"passes": 1, "share": None} if validates else {"passes": 10, "share": 0.03}
    expected = twin.forecast(losses, 70, **options)
    assert published(losses, 70, validates=validates) == pytest.approx(expected, rel=1e-9)
