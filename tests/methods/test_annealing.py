"""Rates that are multiplied by a cosine's share: what the network says is what differs from it."""

import json
import math

import pytest
import torch

from meta_lr import checkpoint
from meta_lr.checkpoint import CheckpointError
from meta_lr.methods.basic import Cosine
from meta_lr.methods.features.features import Features
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.protocol import Need, StepView
from meta_lr.testing import check_controller

STEPS = 40
NAMES = ("relative_loss", "change_10", "progress")
LINEAR = MLP(hidden=(), inputs=3, floor=1e-2)


def learned(net=LINEAR, gamma=1.28, *, start="linear", anneal=True, names=NAMES, stages=1):
    phis = [net.init(seed, start) for seed in range(stages)]
    return Learned(net, phis, gamma, features=Features(names), anneal=anneal)


def rates(controller, steps=STEPS, total_steps=STEPS):
    state, out = controller.init(), []
    for step in range(steps):
        loss = torch.tensor(2.0 * 0.95**step)
        view = StepView(controller, step, total_steps=total_steps, loss=loss)
        rate, state = controller(view, state)
        out.append(rate)
    return out


def test_a_head_of_zeros_is_the_cosine_at_gamma():
    cosine, mine = Cosine(1.28), rates(learned(start="zero"))
    views = [StepView(cosine, step, total_steps=STEPS) for step in range(STEPS)]
    assert mine == pytest.approx([cosine(view, cosine.init())[0] for view in views], rel=1e-6)


@pytest.mark.parametrize("net", [LINEAR, MLP((4,), inputs=3), LSTM(3, inputs=3, floor=0.1)])
@pytest.mark.parametrize("gamma", [0.5, InitialLossGamma(10)])
def test_annealing_multiplies_the_rate_and_nothing_else(net, gamma):
    free, bound = (learned(net, gamma, anneal=anneal, stages=2) for anneal in (False, True))
    shares = [0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)]
    swing = 1 / net.floor**0.5 if net.floor else 2.0  # the head's 0 is the cosine itself
    expected = [swing * rate * share for rate, share in zip(rates(free), shares, strict=True)]
    assert rates(bound) == pytest.approx(expected, rel=1e-5)
    memory, slow = bound.init().memory, []
    for step in range(STEPS):
        rate, memory = bound.pure(
            bound.stages[2 * step // STEPS],
            torch.tensor(2.0 * 0.95**step),
            memory,
            step=step,
            total_steps=STEPS,
        )
        slow.append(float(rate))
    assert slow == pytest.approx(expected, rel=1e-5)


def test_runs_side_by_side_equal_each_alone():
    for net in (LINEAR, LSTM(3, inputs=3, floor=0.1)):
        phis = [net.init(seed) for seed in range(4)]
        own = learned(net)
        weights = tuple(torch.stack(group) for group in zip(*phis, strict=True))
        memory = tuple(m.expand(4, *m.shape).clone() for m in own.init().memory)
        alone = [own.init().memory] * 4
        for step in range(12):
            losses = torch.rand(4, generator=torch.Generator().manual_seed(step)) + 0.5
            found, memory = own.pure(weights, losses, memory, step=step, total_steps=STEPS)
            for run, phi in enumerate(phis):
                rate, alone[run] = own.pure(
                    phi, losses[run], alone[run], step=step, total_steps=STEPS
                )
                assert found[run].item() == pytest.approx(rate.item(), rel=1e-5)


def test_the_raw_loss_can_be_annealed_too():
    raw = learned(MLP((4,)), 0.5, names=("loss",))
    assert raw.needs == Need.LOSS | Need.HORIZON
    free = learned(MLP((4,)), 0.5, names=("loss",), anneal=False)
    assert rates(raw)[20] == pytest.approx(rates(free)[20], rel=1e-5)  # twice the half
    assert rates(raw, steps=60)[45] == 0.0  # beyond the end
    assert raw.fingerprint != free.fingerprint
    check_controller(raw)


def test_it_comes_back_from_a_checkpoint(tmp_path):
    made = learned()
    contract = checkpoint.save(tmp_path, made, trained_on={}, card="")
    loaded, _ = checkpoint.load(tmp_path)
    assert rates(loaded) == rates(made)
    assert (repr(loaded), loaded.anneal) == (repr(made), True)
    assert contract["format_version"] == 2 and contract["output"]["bounds"] == [
        0.0,
        pytest.approx(12.8),
    ]
    (tmp_path / "config.json").write_text(json.dumps({**contract, "anneal": "no"}))
    with pytest.raises(CheckpointError, match="has anneal='no', but it must be true or false"):
        checkpoint.load(tmp_path)


def test_a_network_without_hidden_layers_is_linear_before_the_sigmoid():
    weights, x = LINEAR.init(0), torch.tensor([0.3, -0.2, 0.9])
    z = (weights[0] @ x + weights[1]).item()
    expected = 1e-2 ** (1 - 1 / (1 + math.exp(-z)))
    assert float(LINEAR(weights, x, ())[0]) == pytest.approx(expected, rel=1e-5)
    assert LINEAR.fold(weights)(x.tolist(), ()) == pytest.approx(expected, rel=1e-5)
