"""The self-tuning schedule through back-propagation: exact gradients, windows, resume, refusals."""

from dataclasses import replace

import pytest
import torch

from meta_lr.bilevel.baseline import Curve, PeakedCosine
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.episodes import Episode
from meta_lr.bilevel.es import scored
from meta_lr.bilevel.meta_training import Plan
from meta_lr.bilevel.objectives import Final, Mean
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.bilevel.trainer import meta_train
from meta_lr.bilevel.varied import VariedProblems
from meta_lr.bilevel.windowed import TruncatedBackprop, TruncatedUnroll
from meta_lr.bilevel.windows import Fixed
from meta_lr.methods.features.arithmetic import TENSORS
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.seeds import generator
from meta_lr.training.outcome import StoppedError
from tests.changed import changed, frozen_and_zero, zero_head

STEPS = 8
FLAT = Curve((0, 1000), (0.5, 0.5))
BOTH = [TruncatedBackprop(), TruncatedUnroll()]
CELL = LSTM(hidden=3, inputs=NETWORK.inputs, outputs=2)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def digits(optimizer="sgd_momentum"):
    kind = DigitsProblems(widths=(4, 8), batch_sizes=(16,), optimizers=(optimizer,))
    return replace(kind, lengths=(STEPS, STEPS), label_noise=(0.0, 0.0))(1)


def varied(family, optimizer, index=3):
    kind = VariedProblems(networks=(family,), optimizers=(optimizer,), batch_sizes=(8,))
    return replace(kind, lengths=(STEPS, STEPS))(index)


def schedule(net=NETWORK):
    draw = generator(0, "phi")
    return SelfTuning(tuple(torch.randn(w.shape, generator=draw) for w in net.init(0)), net)


def window(method, episode, own, weights):
    return method.window(episode, own, own.weights, weights, seed=0)


def central(problem, own, objective, direction, size=1e-5):
    """Return the slope of what copies score along a direction of phi, and the score at phi."""
    near = [
        [w + h * d for w, d in zip(own.weights, direction, strict=True)] for h in (size, -size, 0.0)
    ]
    copies = Copies(problem, own, 3)
    start = Episode(problem, FLAT, 0, copies.start(), torch.zeros(0))
    phi = tuple(torch.stack(three) for three in zip(*near, strict=True))
    scores, _ = scored(copies, start, phi, objective(0, problem.total_steps))
    return (scores[0] - scores[1]).item() / (2 * size), scores[2].item()


CASES = [
    (digits("sgd"), NETWORK),
    (digits("sgd_momentum"), CELL),
    (digits("adam"), NETWORK),
    (varied("attention", "adamw"), NETWORK),
    (changed(digits("sgd_momentum"), zero_head), NETWORK),
    (changed(digits("adam"), frozen_and_zero), NETWORK),
    (varied("conv", "rmsprop", index=2), NETWORK),  # smooth: many ReLUs have a kink somewhere near
]


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize(("problem", "net"), CASES)
def test_the_gradient_is_the_slope_by_central_differences(method, problem, net):
    own, objective = schedule(net), Mean(every=3)
    direction = [torch.sign(w) for w in own.weights]
    slope, score = central(problem, own, objective, direction)
    weights = objective(0, STEPS)
    got = window(method, method.begin(problem, FLAT, own, 0), own, weights)
    along = got.grad @ torch.cat([d.reshape(-1) for d in direction])
    assert abs(slope) > 1e-6
    assert along.item() == pytest.approx(slope, rel=1e-6)
    assert got.score == pytest.approx(score, rel=1e-12)


@pytest.mark.parametrize("problem", [digits("adam"), varied("conv", "sgd_momentum")])
def test_both_ways_go_on_from_window_to_window_alike(problem):
    own, ends = schedule(), []
    for method in BOTH:
        first = window(method, method.begin(problem, FLAT, own, 0), own, Final()(0, 3))
        ends.append(window(method, first.episode, own, Mean(every=2)(3, 5)))
    walked, unrolled = ends
    torch.testing.assert_close(walked.grad, unrolled.grad, rtol=1e-9, atol=1e-15)
    assert walked.grad.norm() > 0 and walked.episode.step == unrolled.episode.step == STEPS
    whole = Copies(problem, own, 1)
    phi = tuple(weight.unsqueeze(0) for weight in own.weights)
    reached = whole.run(whole.start(), phi, 0, STEPS)
    params = [walked.episode.point.params, unrolled.episode.point.params, reached.params]
    for mine, theirs, plain in zip(*params, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(mine, plain[0], rtol=1e-9, atol=1e-12)


def test_a_window_that_is_not_scored_has_a_gradient_of_zero():
    problem, own = digits(), schedule()
    for method in BOTH:
        got = window(method, method.begin(problem, FLAT, own, 0), own, (0.0, 0.0))
        assert got.grad.shape == (sum(w.numel() for w in own.weights),) and not got.grad.any()


@pytest.mark.parametrize(("method", "cost"), [(BOTH[0], 5 * 4 + 1), (BOTH[1], 1 + 4 * 4 + 1)])
def test_what_a_window_costs(method, cost):
    """Where `higher` keeps the graph, the first step is not differentiated twice."""
    own, problem = schedule(), digits()
    got = window(method, method.begin(problem, FLAT, own, 0), own, Final()(0, 5))
    assert got.cost == pytest.approx(cost)


def test_the_root_of_a_variance_of_zero_has_a_slope_of_zero():
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    root = TENSORS.sqrt(x)
    (slope,) = torch.autograd.grad(root.sum(), x)
    assert root.tolist() == [0.0, 2.0] and slope.tolist() == [0.0, 0.25]


def test_a_stopped_meta_training_goes_on_exactly(tmp_path):
    torch.set_default_dtype(torch.float32)
    problems = VariedProblems(lengths=(4, 8), batch_sizes=(8,))
    own = schedule()
    plan = Plan(
        *(problems, TruncatedUnroll(), Mean(every=2), Fixed(3)),
        **{"updates": 3, "episodes": 1, "pool": 9, "held_out": 1},
    )
    whole = meta_train(plan, own, own.weights)
    asked = iter([False, False, True])
    with pytest.raises(StoppedError):
        meta_train(plan, own, own.weights, folder=tmp_path, stop=lambda: next(asked))
    resumed = meta_train(plan, own, own.weights, folder=tmp_path)
    assert all(map(torch.equal, whole.phi, resumed.phi)) and whole.cost == resumed.cost
    assert not all(map(torch.equal, whole.phi, own.weights))


@pytest.mark.parametrize("method", BOTH)
def test_a_schedule_without_a_gradient_is_refused(method):
    with pytest.raises(ValueError, match=r"PeakedCosine has no gradient .* choose estimator=es"):
        method.begin(digits(), FLAT, PeakedCosine(), 0)
