"""The language model: its size, a warmed state, tied weights, and runs that learn through them."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn

from meta_lr import vectors
from meta_lr.bilevel.estimators import Adjoint, ClosedForm, FirstOrder, Unroll
from meta_lr.bilevel.objectives import Final
from meta_lr.methods.basic import Constant
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.seeds import seed_model
from meta_lr.tasks.models import LSTMLanguageModel
from meta_lr.training.loop import train
from meta_lr.training.sandbox import Sandbox
from tests import smooth
from tests.texts import SGD, TINY, talk
from tests.toys import HeavyProber


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize(
    ("layers", "tied", "weights"),
    [(2, True, 9_332_496), (3, True, 11_433_744), (2, False, 14_452_496)],
)
def test_number_of_weights_is_that_of_pytorch_s_example(layers, tied, weights):
    model = LSTMLanguageModel(num_classes=10_000, width=512, layers=layers, tied=tied)
    assert sum(weight.numel() for weight in model.parameters()) == weights


def test_a_fresh_model_is_a_pure_function_of_the_seed():
    state = torch.get_rng_state()
    first, again, other = (talk(seed=seed).model().state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])
    assert first["embedding.weight"].abs().max() <= 0.1 and not first["bias"].any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_warming_changes_no_output_and_takes_no_gradient(double, layers, tied):
    model = LSTMLanguageModel(num_classes=9, width=6, layers=layers, dropout=0.0, tied=tied)
    tokens = torch.tensor([[8, 1, 2, 3, 4, 0], [8, 4, 0, 1, 1, 2]])  # the 8 is only read to warm
    whole, warmed = model(tokens, 6), model(tokens, 4)
    torch.testing.assert_close(warmed, whole[:, 2:], rtol=1e-12, atol=1e-12)

    def slope(logits):
        (grad,) = torch.autograd.grad(logits[..., :5].sum(), model.embedding.weight)
        return grad[8]

    assert slope(whole[:, 2:]).any() and not slope(warmed).any()


@pytest.mark.parametrize("num_scored", [5, 3])
def test_dropout_acts_in_train_mode_only(num_scored):
    model = LSTMLanguageModel(num_classes=9, width=8, layers=2, dropout=0.5)
    tokens = torch.arange(5).view(1, 5)
    assert not torch.equal(model(tokens, num_scored), model(tokens, num_scored))
    model.eval()
    assert torch.equal(model(tokens, num_scored), model(tokens, num_scored))


def test_second_derivatives_exist_in_single_precision_too():
    task = talk(network=functools.partial(TINY, layers=2, dropout=0.2))
    model = task.model()
    weights = list(model.parameters())
    loss = task.loss(model, task.batch("train", 0))
    first = torch.autograd.grad(loss, weights, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), weights)
    assert all(g.isfinite().all() and g.any() for g in second)


@pytest.mark.parametrize(
    "changes", [{"num_classes": 0}, {"width": 0}, {"layers": 0}, {"dropout": 1.0}]
)
def test_a_model_out_of_range_is_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"LSTMLanguageModel got {name}="):
        LSTMLanguageModel(**{"num_classes": 5, **changes})


# The tie ------------------------------------------------------------------------------------------


def moved(task, model):
    """Weights away from the model's, in its order."""
    g = torch.Generator().manual_seed(5)
    return [p.detach() + 0.3 * torch.randn(p.shape, generator=g) for p in model.parameters()]


@pytest.mark.parametrize("copied", [False, True])
def test_a_replaced_embedding_is_replaced_at_the_output_too(double, copied):
    task = talk()
    model = copy.deepcopy(task.model()) if copied else task.model()
    sandbox = Sandbox(model, SGD(model.parameters()), task.loss, task.batch)
    weights = [w.requires_grad_() for w in moved(task, model)]
    slopes = torch.autograd.grad(sandbox.meta_loss(weights), weights)
    twin = task.model()
    with torch.no_grad():
        for p, w in zip(twin.parameters(), weights, strict=True):
            p.copy_(w)
    loss = task.loss(twin, task.batch("meta", 0, 0))
    loss.backward()
    assert sandbox.meta_loss(weights).item() == pytest.approx(loss.item(), rel=1e-12)
    for slope, p in zip(slopes, twin.parameters(), strict=True):
        torch.testing.assert_close(slope, p.grad, rtol=1e-10, atol=1e-12)
    names = [name for name, _ in model.named_parameters()]
    assert names.count("embedding.weight") == 1 and len(names) == 6  # four of the LSTM, the bias


def waiting(monkeypatch, task, clip=None):
    monkeypatch.setattr(smooth, "Smooth", lambda _: task)
    optimizer = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2)
    run = smooth.Waiting("text", optimizer, LSTM(hidden=4), rate=2.0)
    run.sandbox.clip = clip
    return run


def apart(a, b):
    return float(vectors.norm(torch._foreach_sub(list(a), list(b))) / vectors.norm(a))


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_meta_gradient_is_that_of_central_differences(double, monkeypatch, layers, clip):
    network = functools.partial(TINY, layers=layers, dropout=0.2)
    run = waiting(monkeypatch, talk(network=network, warm=0), clip)
    weights = Final()(0, 4)
    grads = run.estimate(Adjoint(), weights).grads
    assert apart(grads, run.estimate(Unroll(), weights).grads) < 1e-8
    g = torch.Generator().manual_seed(0)
    direction = [torch.randn(w.shape, generator=g) for w in run.phi]
    up, down = (
        run.estimate(FirstOrder(), weights, vectors.axpy(size, direction, run.phi)).loss
        for size in (1e-5, -1e-5)
    )
    assert vectors.dot(grads, direction).item() == pytest.approx((up - down) / 2e-5, rel=1e-6)


def test_the_estimators_agree_where_the_state_is_warmed(double, monkeypatch):
    run = waiting(monkeypatch, talk(network=functools.partial(TINY, dropout=0.2)))
    walked = run.estimate(Adjoint(), Final()(0, 4)).grads
    assert apart(walked, run.estimate(Unroll(), Final()(0, 4)).grads) < 1e-8
    first, *others = (run.estimate(e(), (1.0,)).grads for e in (ClosedForm, Adjoint, Unroll))
    assert all(apart(first, other) < 1e-8 for other in others)


def test_a_broken_tie_would_be_noticed(double, monkeypatch):
    whole = waiting(monkeypatch, talk(warm=0)).estimate(Adjoint(), (1.0,)).grads
    linear = nn.functional.linear

    def cut(hidden, matrix, bias):
        return linear(hidden, matrix.detach(), bias)

    run = waiting(monkeypatch, talk(warm=0))
    monkeypatch.setattr(nn.functional, "linear", cut)
    assert apart(whole, run.estimate(Adjoint(), (1.0,)).grads) > 1e-2


# Runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_experiments_replay_the_run_s_loss_and_leave_no_trace(dropout):
    task = talk(network=functools.partial(TINY, layers=2, dropout=dropout))
    probed, plain = (
        train(task, SGD, controller, total_steps=6, clip=0.25)
        for controller in (HeavyProber(0.05), Constant(0.05))
    )
    same = zip(probed.model.state_dict().values(), plain.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)

    model = task.model()
    sandbox = Sandbox(model, SGD(model.parameters()), task.loss, task.batch, seed=0)
    sandbox.at(3)
    seed_model(0, "model", 3)
    assert sandbox.loss(list(model.parameters())).equal(task.loss(model, task.batch("train", 3)))


def test_online_mlr_snet_learns_on_text():
    task = talk(network=functools.partial(TINY, layers=2))
    online = OnlineMLRSNet(LSTM(hidden=4), gamma=4.0, period=4)
    outcome = train(task, SGD, online, total_steps=24, clip=0.25)
    assert outcome.status == "finished" and int(outcome.state.updates) == 6
