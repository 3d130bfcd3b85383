"""Signals of the gradient: equal to their twin, and free of the units of loss and weights."""

import pytest
import torch
from torch import nn

from meta_lr.methods.features.features import Features
from meta_lr.methods.features.signals import SIGNAL_FEATURES
from meta_lr.optim.signals import (
    chosen,
    flat,
    flat_copies,
    least_norms,
    pieces_of,
    signals_of,
    squares,
    sums,
    totals,
)
from meta_lr.seeds import generator
from tests.reference.signals import feature

NAMES = tuple(SIGNAL_FEATURES)
STEPS = 40
X, Y = (torch.randn(32, n, generator=generator(n, "data"), dtype=torch.float64) for n in (6, 3))
OPTIMIZERS = {
    "sgd": lambda params, lr: torch.optim.SGD(params, lr=lr),
    "momentum": lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9),
    "adamw": lambda params, lr: torch.optim.AdamW(params, lr=lr / 10),
}


class Net(nn.Module):
    """Two layers, the weights of each stored in a unit of its own."""

    def __init__(self, units=(1.0, 1.0)):
        super().__init__()
        draw = generator(0, "net")
        shapes = ((6, 8), (8, 3))
        self.units = units
        self.weights = nn.ParameterList(
            torch.randn(shape, generator=draw, dtype=torch.float64) / (3 * unit)
            for shape, unit in zip(shapes, units, strict=True)
        )
        self.bias = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x):
        first, second = (w * unit for w, unit in zip(self.weights, self.units, strict=True))
        return torch.tanh(x @ first) @ second + self.bias


def histories(optimizer="sgd", lr=0.1, factor=1.0, zero=False):
    """Train; return the weights and gradients of each step, as tensors of the measured layers."""
    net = Net()
    if zero:
        nn.init.zeros_(net.weights[1])
    made = OPTIMIZERS[optimizer](net.parameters(), lr)
    weights, grads = [], []
    for step in range(STEPS):
        batch = slice(step % 4 * 8, step % 4 * 8 + 8)
        loss = factor * (net(X[batch]) - Y[batch]).square().mean()
        made.zero_grad()
        loss.backward()
        params = list(net.parameters())
        places = chosen([p.shape for p in params])
        weights.append([params[i].detach().clone() for i in places])
        grads.append([params[i].grad.clone() for i in places])
        made.step()
    return weights, grads


def measured(weights, grads, total_steps=STEPS, copies=False):
    """Yield the signals of each step of histories."""
    joined = flat_copies if copies else flat
    lengths, usual = pieces_of([t.shape[copies:] for t in weights[0]])
    average = before = joined(weights[0])
    least = least_norms(squares(before, lengths).sqrt(), usual)
    for tensors, slopes in zip(weights, grads, strict=True):
        now = joined(tensors)
        average = average + (now - average) / (max(10, total_steps / 20) + 1)
        found = totals(sums(now, joined(slopes), before, average, lengths), least)
        yield signals_of(found.unbind(-1), torch.sqrt)
        before = now


def along(weights, grads, total_steps=STEPS, copies=False):
    """Return the features (steps, features) of histories."""
    features, rows = Features(NAMES), []
    state = features.init()
    for step, signals in enumerate(measured(weights, grads, total_steps, copies)):
        loss = torch.ones_like(signals.update)
        if not rows and loss.ndim:
            state = tuple(numbers.expand(len(loss), -1) for numbers in state)
        x, state = features(loss, state, step=step, total_steps=total_steps, signals=signals)
        rows.append(x)
    return torch.stack(rows)


def listed(history):
    return [[t.tolist() for t in tensors] for tensors in history]


@pytest.mark.parametrize("zero", [False, True], ids=["drawn", "a layer begins at zero"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_features_equal_their_twin_with_any_optimizer(optimizer, zero):
    weights, grads = histories(optimizer, zero=zero)
    found = along(weights, grads)
    vectors, slopes = listed(weights), listed(grads)
    for step in range(STEPS):
        parts = vectors[: step + 1], slopes[: step + 1]
        twin = [feature(name, *parts, STEPS) for name in NAMES]
        assert found[step].tolist() == pytest.approx(twin, rel=1e-9, abs=1e-9)


def test_plain_numbers_give_the_same():
    weights, grads = histories("momentum")
    found = along(weights, grads)
    features = Features(NAMES)
    read, state = features.fold(), features.init()
    for step, signals in enumerate(measured(weights, grads)):
        signals = type(signals)(*(value.item() for value in signals))
        assert read(1.0, step, STEPS, state, signals) == pytest.approx(found[step].tolist())


def test_copies_side_by_side_are_each_alone():
    runs = [histories("sgd", lr) for lr in (0.03, 0.3)]
    weights, grads = (
        [
            [torch.stack(pair) for pair in zip(*step, strict=True)]
            for step in zip(*both, strict=True)
        ]
        for both in zip(*runs, strict=True)
    )
    together = along(weights, grads, copies=True)
    for copy, run in enumerate(runs):
        assert torch.allclose(together[:, copy], along(*run), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_a_factor_of_the_loss_changes_nothing(factor):
    plain = along(*histories("momentum", lr=0.05))
    scaled = along(*histories("momentum", lr=0.05 / factor, factor=factor))
    assert torch.allclose(plain, scaled, rtol=1e-9, atol=1e-9)


def sgd_in_units(net):
    """The learning rate of a layer is in the square of its unit; the bias keeps its own."""
    layers = zip(net.weights, net.units, strict=True)
    groups = [{"params": [layer], "lr": 0.1 / unit**2} for layer, unit in layers]
    return torch.optim.SGD([*groups, {"params": [net.bias], "lr": 0.1}])


def adamw_in_units(net):
    """The learning rate of a layer is in its unit, and so is what the decay is divided by."""
    layers = zip(net.weights, net.units, strict=True)
    groups = [
        {"params": [layer], "lr": 0.01 / unit, "weight_decay": unit} for layer, unit in layers
    ]
    return torch.optim.AdamW([*groups, {"params": [net.bias], "lr": 0.01}], eps=1e-30)


@pytest.mark.parametrize("units", [(1 / 3, 1 / 3), (3.0, 3.0), (1 / 3, 3.0), (100.0, 0.01)])
@pytest.mark.parametrize("make", [sgd_in_units, adamw_in_units])
def test_the_units_of_the_layers_change_nothing_even_if_each_has_one_of_its_own(make, units):
    rows = []
    for net in (Net(), Net(units)):
        optimizer, weights, grads = make(net), [], []
        for _ in range(STEPS):
            loss = (net(X) - Y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            weights.append([p.detach().clone() for p in net.weights])
            grads.append([p.grad.clone() for p in net.weights])
            optimizer.step()
        rows.append(along(weights, grads))
    assert torch.allclose(*rows, rtol=1e-8, atol=1e-8)
    assert rows[0].abs().amax(0).gt(0.01).all(), "each feature says something"


def test_short_steps_are_aligned_and_long_ones_are_not():
    along_at = NAMES.index("alignment_5")
    weights = [[torch.full((1, 1), value)] for value in (1.0, 0.9, 0.8, 0.7)]
    short = along(weights, [[w[0].clone()] for w in weights])  # the slope of w^2 / 2
    assert short[-1, along_at] > 0
    weights = [[torch.full((1, 1), value)] for value in (1.0, -1.0, 1.0, -1.0)]
    long = along(weights, [[w[0].clone()] for w in weights])
    assert long[-1, along_at] < 0


def test_matrices_are_measured_and_biases_are_not_unless_there_is_nothing_else():
    assert chosen([(3, 4), (4,), (2, 3, 3, 3), ()]) == (0, 2)
    assert chosen([(4,), ()]) == (0, 1)


def test_a_tensor_that_begins_at_zero_counts_as_torch_would_initialise_it_and_others_do_not():
    layer = nn.Linear(1000, 600)
    _, usual = pieces_of([layer.weight.shape, (2, 2)])
    assert usual[0] == pytest.approx(layer.weight.norm().item(), rel=1e-2)
    norms = torch.tensor([[0.0, 0.0], [5.0, 0.0]])  # of two copies
    assert least_norms(norms, (3.0, 4.0)).tolist() == [[3.0, 4.0], [0.0, 4.0]]


def test_weights_that_stay_and_gradients_of_zero_give_finite_features():
    still = [[torch.zeros(2, 2)] for _ in range(5)]
    assert along(still, still).isfinite().all()
