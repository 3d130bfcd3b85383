"""Episodic meta-training: copies side by side, both kinds of gradient, and the trainer."""

import math
from dataclasses import replace

import pytest
import torch

from meta_lr.bilevel.baseline import Curve, PeakedCosine, baseline_curve, cosine_losses
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.episodes import WORST, Episode
from meta_lr.bilevel.es import PersistentES, persistent_gradient, ranks, scored
from meta_lr.bilevel.meta_training import MetaTraining, Plan
from meta_lr.bilevel.objectives import Final, LogArea, Mean
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.bilevel.trainer import meta_train
from meta_lr.bilevel.windowed import TruncatedBackprop
from meta_lr.bilevel.windows import Fixed, Growing, LogUniform
from meta_lr.methods.features.features import Features
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.protocol import StepView
from meta_lr.records.reader import read_rows
from meta_lr.training.outcome import StoppedError
from tests.times import untimed

SMALL = DigitsProblems(widths=(4, 8), lengths=(6, 12), batch_sizes=(16,))
FLAT = Curve((0, 1000), (0.5, 0.5))
NAMES = ("log_loss", "relative_loss", "change_10", "progress")


def learner(net=None, names=NAMES):
    net = net or MLP(hidden=(4,), inputs=len(names))
    return Learned(net, [net.init(3)], 2.0, features=Features(names))


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def window(method, episode, own, steps, objective):
    """Take an episode on by `steps` steps, or what is left of it."""
    weights = episode.weights(objective, steps)
    return method.window(episode, own, own.stages[0], weights, seed=0)


@pytest.mark.parametrize("optimizer", ["sgd", "sgd_momentum", "adam"])
@pytest.mark.parametrize("net", [None, LSTM(hidden=3, inputs=len(NAMES))])
def test_copies_train_as_a_plain_loop_does(optimizer, net):
    problem, own = replace(SMALL, optimizers=(optimizer,))(2), learner(net)
    phis = [own.stages[0], tuple(1.5 * weight for weight in own.stages[0])]
    copies = Copies(problem, own, 2)
    phi = tuple(torch.stack(both) for both in zip(*phis, strict=True))
    point = copies.run(copies.run(copies.start(), phi, 0, 2), phi, 2, 4)  # in two windows
    for i, weights in enumerate(phis):
        model, controller = problem.task.model(), replace(own, stages=(weights,))
        inner, state = problem.make_optimizer(list(model.parameters())), own.init()
        scale = inner.param_groups[0]["lr_scale"]
        for step in range(6):
            loss = problem.task.loss(model, problem.task.batch("train", step))
            inner.zero_grad()
            loss.backward()
            view = StepView(controller, step, total_steps=problem.total_steps, loss=loss.detach())
            rate, state = controller(view, state)
            inner.param_groups[0]["lr"] = scale * float(rate)
            inner.step()
        for mine, plain in zip(point.params, model.parameters(), strict=True):
            torch.testing.assert_close(mine[i], plain.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("objective", [Final(), Mean(every=2), LogArea()])
def test_the_truncated_gradient_is_the_slope_of_what_the_copies_score(objective):
    problem, own = SMALL(1), learner()
    whole = problem.total_steps
    episode = TruncatedBackprop().begin(problem, FLAT, own, 0)
    got = window(TruncatedBackprop(), episode, own, whole, objective)
    assert got.episode.step == whole
    g = torch.Generator().manual_seed(0)
    direction = [torch.randn(w.shape, generator=g) for w in own.stages[0]]
    up, down = (
        [w + size * d for w, d in zip(own.stages[0], direction, strict=True)]
        for size in (1e-5, -1e-5)
    )
    phi = tuple(torch.stack(both) for both in zip(up, down, own.stages[0], strict=True))
    copies = Copies(problem, own, 3)
    start = Episode(problem, FLAT, 0, copies.start(), torch.zeros(0))
    scores, end = scored(copies, start, phi, objective(0, whole))
    slope = float(got.grad @ torch.cat([d.reshape(-1) for d in direction]))
    assert slope == pytest.approx((scores[0] - scores[1]).item() / 2e-5, rel=1e-6)
    assert got.score == pytest.approx(scores[2].item(), rel=1e-10)
    for mine, theirs in zip(got.episode.point.params, end.params, strict=True):
        torch.testing.assert_close(mine, theirs[2])


@pytest.mark.parametrize(("second_order", "per_step"), [(True, 4), (False, 2)])
@pytest.mark.parametrize(("objective", "scored_steps"), [(Final(), 1), (Mean(every=1), 5)])
def test_a_window_of_backprop_costs_its_steps_and_its_meta_losses(
    second_order, per_step, objective, scored_steps
):
    own, method = learner(), TruncatedBackprop(second_order)
    got = window(method, method.begin(SMALL(1), FLAT, own, 0), own, 5, objective)
    assert got.cost == pytest.approx(5 * per_step + scored_steps)


@pytest.mark.usefixtures("double")
def test_windows_of_backprop_go_on_where_the_last_one_ended():
    problem, own = SMALL(1), learner()
    method = TruncatedBackprop()
    episode = method.begin(problem, FLAT, own, 0)
    while episode.step < problem.total_steps:
        episode = window(method, episode, own, 4, Final()).episode
    whole = window(method, method.begin(problem, FLAT, own, 0), own, 99, Final())
    assert episode.step == whole.episode.step == problem.total_steps
    for mine, theirs in zip(episode.point.params, whole.episode.point.params, strict=True):
        torch.testing.assert_close(mine, theirs)


# The toy problem of Vicol et al. (2021), after Tallec & Ollivier (2017): 23 states that feed each
# other in a row; the parameter enters the first 10 with +, the others with -. A short window sees
# the near ones only, and the wrong sign.

SIZE, POSITIVE = 23, 10
WINDOWS, SETTLED = 100, 70
FEED = 0.5 * torch.eye(SIZE) + 0.5 * torch.diag(torch.ones(SIZE - 1), 1)
SIGNS = torch.tensor([1.0] * POSITIVE + [-1.0] * (SIZE - POSITIVE))


def toy_step(states, theta):
    """Next states (copies, 23), and the loss of each copy."""
    states = states @ FEED.T + theta[:, None] * SIGNS
    return states, 0.5 * (states[:, 0] - 1) ** 2


def toy_slope(theta, *, truncated):
    """Derivative in theta of the losses of the last windows, once the states have settled."""
    theta = torch.tensor([theta], requires_grad=True)
    states, slopes = torch.zeros(1, SIZE), []
    for _ in range(WINDOWS):
        states, loss = toy_step(states.detach() if truncated else states, theta)
        slopes.append(torch.autograd.grad(loss, theta, retain_graph=True)[0].item())
    return sum(slopes[SETTLED:])


def toy_estimate(theta, *, persistent, pairs, sigma=0.1, shaped=lambda scores: scores):
    """The same by evolution strategies, of windows of one step."""
    g = torch.Generator().manual_seed(0)
    states, drift, slopes = torch.zeros(2 * pairs, SIZE), torch.zeros(pairs, 1), []
    for _ in range(WINDOWS):
        noise = sigma * torch.randn(pairs, 1, generator=g)
        drift = drift + noise if persistent else noise
        states, scores = toy_step(states, torch.cat([theta + noise, theta - noise])[:, 0])
        slopes.append(persistent_gradient(drift, shaped(scores), sigma).item())
    return sum(slopes[SETTLED:])


def test_persistent_es_is_right_where_truncated_backprop_goes_astray():
    exact = toy_slope(0.5, truncated=False)
    assert exact > 0 > toy_slope(0.5, truncated=True)
    assert toy_estimate(0.5, persistent=True, pairs=40_000) == pytest.approx(exact, rel=0.1)


def test_without_the_drift_evolution_strategies_go_astray_too():
    short = toy_slope(0.5, truncated=True)
    assert toy_estimate(0.5, persistent=False, pairs=4000) == pytest.approx(short, rel=0.1)


def test_ranks_in_windows_keep_the_direction_that_the_drift_gives():
    """Each window's ranks are of that window alone; without the drift the sign is wrong."""
    assert toy_estimate(0.5, persistent=True, pairs=400, shaped=ranks) > 0
    assert toy_estimate(0.5, persistent=False, pairs=200, shaped=ranks) < 0


@pytest.mark.usefixtures("double")
def test_persistent_es_estimates_the_gradient_of_a_whole_window():
    problem, own = SMALL(1), learner()
    method = PersistentES(pairs=3000, sigma=0.002)
    size = sum(weight.numel() for weight in own.stages[0])
    noisy = window(method, method.begin(problem, FLAT, own, size), own, 5, Final()).grad
    walk = TruncatedBackprop()
    exact = window(walk, walk.begin(problem, FLAT, own, 0), own, 5, Final()).grad
    cosine = (noisy @ exact / noisy.norm() / exact.norm()).item()
    assert cosine > 0.97
    assert (noisy @ exact / exact.norm() ** 2).item() == pytest.approx(1.0, abs=0.05)


def test_a_copy_that_diverges_counts_as_worst():
    problem = SMALL(0)
    copies = Copies(problem, PeakedCosine(), 2)
    episode = Episode(problem, FLAT, 0, copies.start(), torch.zeros(0))
    scores, _ = scored(copies, episode, (torch.tensor([1e-3, 1e30]),), (0.0, 0.0, 0.0, 1.0))
    assert scores[0] < WORST and scores[1] == WORST


def test_a_problem_is_a_pure_function_of_family_and_number():
    first, again, other = SMALL(3), SMALL(3), SMALL(4)
    assert first.name == again.name == "digits-3"
    for split in ("train", "meta", "val"):
        for mine, theirs in zip(
            first.task.batch(split, 0), again.task.batch(split, 0), strict=True
        ):
            assert torch.equal(mine, theirs)
    assert first.total_steps == again.total_steps
    assert not torch.equal(first.task.batch("train", 0)[0], other.task.batch("train", 0)[0])
    family = replace(SMALL, name="held_out")(3)
    assert not torch.equal(first.task.batch("train", 0)[0], family.task.batch("train", 0)[0])


def test_noise_is_on_training_labels_alone():
    task = replace(SMALL, label_noise=(0.3, 0.3), subsets=(1.0, 1.0))(5).task
    wrong = []
    for split in ("train", "val", "meta"):
        clean = replace(task, noise="none", noise_share=0.0)
        pairs = [
            (task.batch(split, i)[1], clean.batch(split, i)[1])
            for i in range(task.num_batches(split))
        ]
        wrong.append(torch.cat([a != b for a, b in pairs]).double().mean().item())
    assert wrong == [pytest.approx(0.3, abs=0.02), 0.0, 0.0]


def test_a_baseline_curve_is_that_of_the_cosine():
    problem = SMALL(0)
    curve = baseline_curve(problem, 1.0)
    steps, losses = cosine_losses(problem, (0.3, 1.0))
    assert curve.steps == tuple(steps) and steps[0] == 0 and steps[-1] == problem.total_steps
    assert curve.logs == pytest.approx([math.log(x) for x in losses[:, 1].tolist()], rel=1e-5)
    middle = (steps[0] + steps[1]) / 2
    assert curve.at(middle) == pytest.approx(sum(curve.logs[:2]) / 2)
    assert curve.at(10**6) == curve.logs[-1]


def test_window_lengths():
    drawn = [LogUniform(10, 200)(update) for update in range(300)]
    assert min(drawn) >= 10 and max(drawn) <= 200 and drawn == [LogUniform()(u) for u in range(300)]
    assert sorted(drawn)[150] == pytest.approx(math.sqrt(10 * 200), rel=0.3)
    assert Growing(10, 1000, 2)(1) == 100
    for bad in (lambda: Fixed(0), lambda: LogUniform(9, 3), lambda: Growing(0, 3)):
        with pytest.raises(ValueError, match="1 <= low <= high"):
            bad()


def plan(estimator, **options):
    own = {"updates": 5, "episodes": 2, "pool": 3, "held_out": 2, "evaluate_every": 2, **options}
    return Plan(SMALL, estimator, Mean(every=3), Fixed(4), **own)


ESTIMATORS = [PersistentES(pairs=2), TruncatedBackprop()]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_stopped_meta_training_goes_on_exactly(tmp_path, estimator):
    own = learner()
    whole = meta_train(plan(estimator), own, own.stages[0], folder=tmp_path / "whole")
    asked = 0

    def stop():
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(StoppedError):
        meta_train(plan(estimator), own, own.stages[0], folder=tmp_path / "cut", stop=stop)
    assert read_rows(tmp_path / "cut")[-1]["update"] == 3
    again = meta_train(plan(estimator), own, own.stages[0], folder=tmp_path / "cut")
    for mine, theirs in zip((*again.phi, *again.best), (*whole.phi, *whole.best), strict=True):
        assert torch.equal(mine, theirs)
    rows = [untimed(read_rows(tmp_path / name)) for name in ("whole", "cut")]
    assert rows[0] == rows[1]
    done = meta_train(plan(estimator), own, own.stages[0], folder=tmp_path / "whole")
    assert done.update == 5 and done.best_score == whole.best_score


def test_the_best_phi_is_kept_beside_the_last():
    own = learner()
    run = meta_train(plan(PersistentES(pairs=2), meta_lr=5.0), own, own.stages[0])
    assert run.best_score <= MetaTraining(run.plan, own, own.stages[0]).evaluate()
    assert MetaTraining(run.plan, own, run.best).evaluate() == pytest.approx(run.best_score)


@pytest.mark.slow
def test_training_improves_a_rate_that_is_far_too_small():
    own = replace(learner(), gamma=0.5)
    start = plan(PersistentES(pairs=8, sigma=0.1), meta_lr=0.2, updates=24, evaluate_every=24)
    longer = replace(SMALL, lengths=(30, 30), widths=(8, 8), scales=(1.0, 1.0))
    start = replace(start, problems=longer, window=Fixed(10))
    run = meta_train(start, own, own.stages[0])
    first = MetaTraining(start, own, own.stages[0]).evaluate()
    assert run.best_score < first - 0.03


def test_an_episode_that_diverges_is_dropped_and_counted():
    own = replace(learner(), gamma=1e30)
    run = meta_train(plan(TruncatedBackprop(), updates=2), own, own.stages[0])
    assert run.num_diverged == 4
    assert all(weight.isfinite().all() for weight in run.phi)


@pytest.mark.parametrize("options", [{"updates": 0}, {"pool": 0}, {"meta_lr": 0.0}, {"clip": -1.0}])
def test_unusable_plans_are_refused(options):
    with pytest.raises(ValueError):
        plan(PersistentES(), **options)
