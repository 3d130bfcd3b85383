"""The ways to the meta-gradient against each other and against central differences."""

import weakref
from functools import partial

import pytest
import torch

from meta_lr import vectors
from meta_lr.bilevel.estimators import Adjoint, ClosedForm, FirstOrder, Unroll
from meta_lr.bilevel.objectives import Final, LogArea, Mean
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from tests.smooth import MODELS, Waiting

SGD = torch.optim.SGD
OPTIMIZERS = {
    "momentum": partial(SGD, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": partial(SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, lr=0.02, weight_decay=1e-2),
    "adamw": partial(torch.optim.AdamW, lr=0.02, weight_decay=0.1),
}
FINAL_5 = Final()(0, 5)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def waiting(kind="mlp", optimizer="momentum", net=None):
    rate = 0.05 if optimizer.startswith("adam") else 0.5
    return Waiting(kind, OPTIMIZERS[optimizer], net or LSTM(hidden=4), rate=rate)


def apart(a, b):
    """Relative distance of two meta-gradients."""
    return float(vectors.norm(torch._foreach_sub(list(a), list(b))) / vectors.norm(a))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", MODELS)
def test_the_exact_ones_agree_over_several_steps(kind, optimizer):
    run = waiting(kind, optimizer)
    unrolled, walked = run.estimate(Unroll(), FINAL_5), run.estimate(Adjoint(), FINAL_5)
    assert walked.loss == pytest.approx(unrolled.loss, rel=1e-12)
    assert apart(unrolled.grads, walked.grads) < 1e-8
    assert apart(unrolled.grads, run.estimate(FirstOrder(), FINAL_5).grads) > 1e-3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", MODELS)
def test_all_agree_over_one_step(kind, optimizer):
    run = waiting(kind, optimizer)
    first, *others = (run.estimate(e(), (1.0,)) for e in (ClosedForm, Unroll, Adjoint, FirstOrder))
    for other in others:
        assert other.loss == pytest.approx(first.loss, rel=1e-12)
        assert apart(first.grads, other.grads) < 1e-8


def test_steps_that_are_not_scored_need_no_graph():
    run = waiting()
    middle = (0.0, 0.3, 0.7, 0.0, 0.0)
    assert apart(run.estimate(Adjoint(), middle).grads, run.estimate(Unroll(), middle).grads) < 1e-8
    nothing = run.estimate(Adjoint(), (0.0, 0.0, 0.0))
    assert nothing.loss == 0.0 and not any(grad.any() for grad in nothing.grads)


@pytest.mark.parametrize("net", [LSTM(hidden=4), MLP(hidden=(6,))])
@pytest.mark.parametrize("objective", [Final(), Mean(every=2), LogArea()])
@pytest.mark.parametrize("kind", MODELS)
def test_they_agree_with_central_differences(kind, objective, net):
    run, weights = waiting(kind, net=net), objective(2, 5)
    grads = run.estimate(Adjoint(), weights).grads
    unrolled = run.estimate(Unroll(), weights)
    assert apart(grads, unrolled.grads) < 1e-8
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        direction = [torch.randn(w.shape, generator=g) for w in run.phi]
        up, down = (
            run.estimate(FirstOrder(), weights, vectors.axpy(size, direction, run.phi)).loss
            for size in (1e-5, -1e-5)
        )
        slope = vectors.dot(grads, direction).item()
        assert slope == pytest.approx((up - down) / 2e-5, rel=1e-6)


def test_the_checks_notice_a_memory_that_is_cut(monkeypatch):
    call = LSTM.__call__

    def cut(net, weights, loss, memory):
        return call(net, weights, loss, tuple(m.detach() for m in memory))

    run = waiting()
    whole = run.estimate(Adjoint(), FINAL_5).grads
    monkeypatch.setattr(LSTM, "__call__", cut)
    assert apart(whole, run.estimate(Adjoint(), FINAL_5).grads) > 1e-5  # and 1e-8 is asked for


def test_the_run_is_not_touched():
    run = waiting("cnn with BatchNorm", "adam")
    before = [t.clone() for t in run.model.state_dict().values()]
    grads = [p.grad.clone() for p in run.model.parameters()]
    slots = [t.clone() for s in run.optimizer.state.values() for t in s.values()]
    random, memory = torch.get_rng_state(), run.state.memory[0].clone()
    for estimator in (Unroll(), Adjoint(), FirstOrder()):
        run.estimate(estimator, FINAL_5)
    run.estimate(ClosedForm(), (1.0,))
    after = [*run.model.state_dict().values(), *(p.grad for p in run.model.parameters())]
    after += [t for s in run.optimizer.state.values() for t in s.values()]
    assert all(torch.equal(a, b) for a, b in zip([*before, *grads, *slots], after, strict=True))
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(memory, run.state.memory[0])


def most_saved(run, estimator, steps):
    """The largest number of tensors that graphs hold at one time."""
    alive, most = weakref.WeakSet(), 0

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor.detach()  # an output that keeps itself is never freed

    def pack(tensor):
        nonlocal most
        kept = Kept(tensor)
        alive.add(kept)
        most = max(most, len(alive))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        run.estimate(estimator, Final()(0, steps))
    return most


@pytest.mark.parametrize("estimator", [Adjoint(), FirstOrder()])
def test_the_adjoint_never_holds_more_than_one_step_s_graph(estimator):
    run = waiting("cnn with BatchNorm", "adam")
    one, two = most_saved(run, estimator, 1), most_saved(run, estimator, 2)
    assert most_saved(run, estimator, 12) == two  # one step's graph, and the meta loss's
    assert two <= 1.5 * one
    assert most_saved(run, Unroll(), 12) > 5 * two


def test_the_closed_form_refuses_a_longer_look_ahead():
    with pytest.raises(ValueError, match="looks 1 step ahead, not 5; choose unroll or adjoint"):
        waiting().estimate(ClosedForm(), FINAL_5)


@pytest.fixture
def gpu(monkeypatch):
    """Let every tensor be one that cuDNN would take, unless it is switched off."""
    monkeypatch.setattr(
        torch.backends.cudnn, "is_acceptable", lambda _: torch.backends.cudnn.enabled
    )


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("estimator", [Unroll(), Adjoint()])
def test_second_derivatives_of_a_layer_in_cudnn_are_refused(estimator):
    advice = r"LSTM 'lstm' runs in cuDNN.*cudnn.flags\(enabled=False\)"
    with pytest.raises(ValueError, match=advice):
        waiting("lstm").estimate(estimator, FINAL_5)
    with torch.backends.cudnn.flags(enabled=False):
        waiting("lstm").estimate(estimator, FINAL_5)
    waiting("cnn with BatchNorm").estimate(estimator, FINAL_5)


@pytest.mark.usefixtures("gpu")
def test_what_cudnn_can_do_is_not_refused():
    for estimator, weights in ((FirstOrder(), FINAL_5), (ClosedForm(), (1.0,))):
        found = waiting("lstm").estimate(estimator, weights)
        with torch.backends.cudnn.flags(enabled=False):
            plain = waiting("lstm").estimate(estimator, weights)
        assert found.loss == pytest.approx(plain.loss, rel=1e-9)
        assert apart(found.grads, plain.grads) < 1e-6


@pytest.mark.usefixtures("gpu")
def test_a_run_hears_of_cudnn_at_its_first_step_not_at_its_first_update():
    run, net = waiting("lstm"), LSTM(hidden=4)
    online = OnlineMLRSNet(net, period=50, look_ahead=2, estimator=Adjoint())
    with pytest.raises(ValueError, match="runs in cuDNN"):
        online(run.view(0, run.loss), online.init())


@pytest.mark.parametrize(
    ("estimator", "cost"),
    [(ClosedForm(), 1), (Unroll(), 1 + 5 + 4 * 3), (Adjoint(), 1 + 5 + 5 * 3), (FirstOrder(), 11)],
)
def test_what_they_cost(estimator, cost):
    run = waiting()
    run.estimate(estimator, (1.0,) if isinstance(estimator, ClosedForm) else FINAL_5)
    assert run.sandbox.cost == pytest.approx(cost)


@pytest.mark.parametrize("objective", [Final(), Mean(every=1), Mean(every=3), LogArea()])
def test_the_weights_of_an_objective_sum_to_one(objective):
    for start, steps in ((0, 1), (0, 7), (30, 4)):
        weights = objective(start, steps)
        assert len(weights) == steps and weights[-1] > 0
        assert sum(weights) == pytest.approx(1.0)
