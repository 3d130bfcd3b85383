"""Signals of the gradient: equal to their twin, and free of the units of loss and weights."""

import pytest
import torch
from torch import nn

from meta_lr.schedulers.features import Features
from meta_lr.schedulers.signal_features import SIGNAL_FEATURES
from meta_lr.seeds import generator
from meta_lr.signals import chosen, measure, measure_copies
from meta_lr.signals import flat as flat_copies
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
    """Two layers, whose weights are stored in units of `unit`."""

    def __init__(self, unit=1.0):
        super().__init__()
        draw = generator(0, "net")
        shapes = ((6, 8), (8, 3))
        self.unit = unit
        self.weights = nn.ParameterList(
            torch.randn(shape, generator=draw, dtype=torch.float64) / (3 * unit) for shape in shapes
        )
        self.bias = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x):
        first, second = self.weights
        return torch.tanh(x @ (first * self.unit)) @ (second * self.unit) + self.bias


def histories(optimizer="sgd", lr=0.1, unit=1.0, factor=1.0):
    """Train; return the weights and gradients of each step, as tensors of the measured layers."""
    net = Net(unit)
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


def along(weights, grads, total_steps=STEPS, measured=measure):
    """Return the features (steps, features) of histories."""
    features, rows = Features(NAMES), []
    state = features.init()
    for step, (w, g) in enumerate(zip(weights, grads, strict=True)):
        signals = measured(w, g, weights[max(step - 1, 0)], weights[0])
        loss = torch.ones_like(signals.weights)
        if not rows and loss.ndim:
            state = tuple(numbers.expand(len(loss), -1) for numbers in state)
        x, state = features(loss, state, step=step, total_steps=total_steps, signals=signals)
        rows.append(x)
    return torch.stack(rows)


def flat(history):
    return [torch.cat([t.flatten() for t in tensors]).tolist() for tensors in history]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_features_equal_their_twin_with_any_optimizer(optimizer):
    weights, grads = histories(optimizer)
    found = along(weights, grads)
    vectors, slopes = flat(weights), flat(grads)
    for step in range(STEPS):
        parts = vectors[: step + 1], slopes[: step + 1]
        twin = [feature(name, *parts, STEPS) for name in NAMES]
        assert found[step].tolist() == pytest.approx(twin, rel=1e-9, abs=1e-9)


def test_plain_numbers_give_the_same():
    weights, grads = histories("momentum")
    found = along(weights, grads)
    features = Features(NAMES)
    read, state = features.fold(), features.init()
    for step, (w, g) in enumerate(zip(weights, grads, strict=True)):
        signals = measure(w, g, weights[max(step - 1, 0)], weights[0])
        signals = type(signals)(*(value.item() for value in signals))
        assert read(1.0, step, STEPS, state, signals) == pytest.approx(found[step].tolist())


def measured_flat(*lists):
    return measure_copies(*map(flat_copies, lists))


def test_copies_side_by_side_are_each_alone():
    runs = [histories("sgd", lr) for lr in (0.03, 0.3)]
    weights, grads = (
        [
            [torch.stack(pair) for pair in zip(*step, strict=True)]
            for step in zip(*both, strict=True)
        ]
        for both in zip(*runs, strict=True)
    )
    together = along(weights, grads, measured=measured_flat)
    for copy, run in enumerate(runs):
        assert torch.allclose(together[:, copy], along(*run), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_a_factor_of_the_loss_changes_nothing(factor):
    plain = along(*histories("momentum", lr=0.05))
    scaled = along(*histories("momentum", lr=0.05 / factor, factor=factor))
    assert torch.allclose(plain, scaled, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("unit", [1 / 3, 3.0])
def test_the_unit_of_the_weights_changes_nothing(unit):
    """The layers' learning rate is in the square of their unit; the bias keeps its own."""
    plain, other = Net(), Net(unit)
    rows = []
    for net, lr in ((plain, 0.1), (other, 0.1 / unit**2)):
        groups = [{"params": [*net.weights], "lr": lr}, {"params": [net.bias], "lr": 0.1}]
        optimizer, weights, grads = torch.optim.SGD(groups), [], []
        for _ in range(STEPS):
            loss = (net(X) - Y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            weights.append([p.detach().clone() for p in net.weights])
            grads.append([p.grad.clone() for p in net.weights])
            optimizer.step()
        rows.append(along(weights, grads))
    assert torch.allclose(*rows, rtol=1e-8, atol=1e-8)


def test_short_steps_are_aligned_and_long_ones_are_not():
    along_at = NAMES.index("alignment_5")
    weights = [[torch.full((1, 1), value)] for value in (1.0, 0.9, 0.8, 0.7)]
    short = along(weights, [[w[0].clone()] for w in weights])  # the slope of w^2 / 2
    assert short[-1, along_at] > 0
    weights = [[torch.full((1, 1), value)] for value in (1.0, -1.0, 1.0, -1.0)]
    long = along(weights, [[w[0].clone()] for w in weights])
    assert long[-1, along_at] < 0


def test_matrices_are_measured_and_biases_are_not_unless_there_is_nothing_else():
    assert chosen([(3, 4), (4,), (2, 3, 3, 3), ()]) == [0, 2]
    assert chosen([(4,), ()]) == [0, 1]


def test_weights_that_stay_and_gradients_of_zero_give_finite_features():
    still = [[torch.zeros(2, 2)] for _ in range(5)]
    assert along(still, still).isfinite().all()
