"""Peers of the scorecard: the same problem in a plain loop, and the rules they follow."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks.scorecard import families, greedy, peers, plain, problems, runs
from benchmarks.scorecard.finals import finals
from benchmarks.scorecard.greedy import Greedy, follow
from benchmarks.scorecard.plain import Training
from benchmarks.scorecard.tuned import Tuned
from meta_lr.annealing import cosine_share
from meta_lr.bilevel.varied import KINDS

PACKAGED = [name for name, peer in peers.PEERS.items() if peer.package]


@pytest.fixture
def problem():
    return problems.made("table", 1, 3)._replace(total_steps=15)


def constant(lr, problem, model):
    make, options = problem.make_optimizer.func, problem.make_optimizer.keywords
    optimizer = make(model.parameters(), **{**options, "lr": lr})
    return Training(optimizer, lambda: model)


@pytest.mark.parametrize("family", ["table", "autoencoder"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_loop_trains_the_same_problem_as_the_copies(family, kind):
    make, unit = KINDS[kind]
    problem = problems.made(family, 0, 3)._replace(
        total_steps=15, make_optimizer=partial(make, lr=unit), unit=unit
    )

    def warmed_up(problem, model):
        training = constant(0.0, problem, model)
        at, group = iter(range(1, 16)), training.optimizer.param_groups[0]

        def after(loss):
            step = next(at)
            group["lr"] = 0.1 * unit * cosine_share(step, 15) * min(1.0, (step + 1) / 0.75)

        group["lr"] = 0.1 * unit
        return training._replace(after=after)

    ours = finals(problem, Tuned(), (torch.tensor([0.1 * unit]), torch.tensor([0.0])))
    theirs = plain.train(problem, warmed_up)
    assert theirs.logs == pytest.approx(ours.logs, abs=1e-4)
    assert theirs.worst == ours.worst and theirs.averaged == []


def test_a_run_whose_loss_is_not_finite_stops_and_counts_as_diverged(problem):
    seen = []

    def explosive(problem, model):
        return constant(1e30, problem, model)._replace(after=seen.append)

    end = plain.train(problem, explosive)
    assert end.logs == [end.worst] and len(seen) < 5


def test_a_gradient_that_is_not_finite_counts_as_diverged_too(problem):
    class NoGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss):
            return loss.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * math.nan

    measure = problem.task.measure
    task = replace(problem.task, measure=lambda *given: NoGradient.apply(measure(*given)))
    steps = []

    def begin(problem, model):
        return constant(0.1, problem, model)._replace(after=steps.append)

    end = plain.train(problem._replace(task=task), begin)
    assert end.logs == [end.worst] and steps == []  # the optimizer does not see it


def test_the_model_that_is_judged_is_the_one_that_the_method_gives(problem):
    start = problem.task.model()

    def unchanged(problem, model):
        return constant(1.0, problem, model)._replace(final=lambda: start)

    end = plain.train(problem, unchanged)
    assert end.logs[0] == pytest.approx(end.worst - 3.0)


@pytest.mark.parametrize(
    ("kind", "lr"), [("sgd_momentum", 1e-3), ("adamw", 1e-3), ("rmsprop", 1e-2)]
)
def test_the_default_is_that_of_torch_with_the_optimizers_own_options(problem, kind, lr):
    make, unit = KINDS[kind]
    problem = problem._replace(make_optimizer=partial(make, lr=unit))
    training = peers.default_cosine(problem, nn.Linear(2, 1))
    group = training.optimizer.param_groups[0]
    assert group["lr"] == lr and group["momentum" if "sgd" in kind else "eps"] > 0
    lrs = []
    for _ in range(15):
        training.optimizer.step()
        training.after(1.0)
        lrs.append(group["lr"])
    assert lrs == pytest.approx([lr * cosine_share(t, 15) for t in range(1, 16)])


# ------------------------------------------------------------------- GreedyLR


def along(losses, lr=0.1):
    at, lrs = Greedy(lr), []
    for loss in losses:
        at = follow(at, loss)
        lrs.append(at.lr)
    return lrs


def test_greedy_grows_after_eleven_better_steps_and_falls_after_eleven_worse():
    lrs = along([1.0 - 0.01 * i for i in range(22)])
    assert lrs[9] == 0.1 and lrs[10] == pytest.approx(0.1 / 0.95)
    assert lrs[20] == lrs[10] and lrs[21] == pytest.approx(0.1 / 0.95**2)
    lrs = along([1.0] * 23)
    assert lrs[10] == 0.1 and lrs[11] == pytest.approx(0.095)
    assert lrs[22] == pytest.approx(0.1 * 0.95**2)


def test_greedy_looks_at_the_mean_of_the_last_fifty_losses():
    noisy = [1.0 - 0.01 * i + (0.005 if i % 2 else -0.004) for i in range(40)]
    assert along(noisy)[-1] > 0.1  # its mean falls, although no 11 losses in a row do
    at = Greedy(0.1)
    for _ in range(greedy.WINDOW + 9):
        at = follow(at, 1.0)
    assert len(at.recent) == greedy.WINDOW


def test_greedy_stays_within_its_bounds():
    assert along([math.exp(-0.1 * i) for i in range(60)], lr=0.97)[-1] == 1.0
    assert along([1.0] * 60, lr=1.01e-3)[-1] == 1e-3


def test_greedy_starts_at_the_default_and_steers_the_optimizer(problem, monkeypatch):
    rules = []

    def rule(at, loss):
        rules.append((at.lr, loss))
        return at._replace(lr=2 * at.lr)

    monkeypatch.setattr(peers, "follow", rule)
    training = peers.greedy(problem, nn.Linear(2, 1))
    training.after(3.0)
    training.after(2.0)
    assert rules == [(1e-2, 3.0), (2e-2, 2.0)]
    assert training.optimizer.param_groups[0]["lr"] == 4e-2


# ------------------------------------------------------------------- packages


def test_missing_packages_are_named_by_what_pip_calls_them(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda module: None)
    assert peers.missing() == ["dog-optimizer", "mechanic-pytorch", "prodigyopt", "schedulefree"]
    monkeypatch.setattr(peers, "find_spec", lambda module: module != "dog")
    assert peers.missing() == ["dog-optimizer"]


def test_a_peer_becomes_a_row_that_is_made_again_with_another_version(monkeypatch):
    versions = {peer.package: "1.0" for peer in peers.PEERS.values()}
    monkeypatch.setattr(peers, "version", versions.__getitem__)
    monkeypatch.setattr(families, "LENGTHS", (4, 6))
    before = peers.methods()
    row = runs.run(("table", 0, "GreedyLR"), before)
    assert len(row["logs"]) == len(row["worst"]) == 3 and row["averaged"] == []
    versions["prodigyopt"] = "1.1"
    old = {"method": "Prodigy + cosine", "fingerprint": "prodigyopt 1.0", "worst": []}
    assert runs.kept(old, before) and not runs.kept(old, peers.methods())
    assert runs.kept(row, peers.methods())


def installed(name):
    if not peers.find_spec(peers.PEERS[name].module):
        pytest.skip(f"{peers.PEERS[name].package} is not installed")


@pytest.mark.parametrize("name", PACKAGED)
@pytest.mark.parametrize("kind", KINDS)
def test_each_packaged_peer_trains_with_every_optimizer(problem, name, kind):
    installed(name)
    make, unit = KINDS[kind]
    problem = problem._replace(total_steps=60, make_optimizer=partial(make, lr=unit))
    end = plain.train(problem, peers.PEERS[name].begin)
    assert end.logs[0] < end.worst - 3.0 - 0.1  # better than at the start


@pytest.mark.parametrize("name", ["Schedule-Free SGD", "Schedule-Free AdamW", "DoG + its average"])
def test_peers_that_average_are_judged_at_their_average(problem, name):
    installed(name)
    model = problem.task.model()
    training = peers.PEERS[name].begin(problem, model)
    for step in range(20):
        training.optimizer.zero_grad()
        problem.task.loss(model, problem.task.batch("train", step)).backward()
        training.optimizer.step()
        training.after(1.0)
    last = [p.detach().clone() for p in model.parameters()]
    judged = training.final().parameters()
    assert any(not torch.equal(a, b) for a, b in zip(last, judged, strict=True))


@pytest.mark.parametrize("name", ["Prodigy + cosine", "Mechanic + cosine"])
def test_peers_with_a_cosine_end_at_zero(problem, name):
    installed(name)
    model = problem.task.model()
    training = peers.PEERS[name].begin(problem, model)
    group = training.optimizer.param_groups[0]
    assert group["lr"] == 1.0
    for step in range(problem.total_steps):
        training.optimizer.zero_grad()
        problem.task.loss(model, problem.task.batch("train", step)).backward()
        training.optimizer.step()
        training.after(1.0)
    assert group["lr"] == pytest.approx(0.0, abs=1e-9)
