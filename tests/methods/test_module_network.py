"""A torch module as a scheduler network: the same numbers as the built-in MLP, learned and kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from meta_lr import checkpoint
from meta_lr.bilevel.es import PersistentES
from meta_lr.bilevel.meta_training import Plan
from meta_lr.bilevel.objectives import Final
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.bilevel.trainer import meta_train
from meta_lr.bilevel.windows import Fixed
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.networks import MLP, ModuleNetwork
from meta_lr.methods.self_tuning.schedule import INPUTS, SelfTuning
from meta_lr.training.loop import train
from tests.short_runs import SGD, steps_of
from tests.toys import Toy

MINE = ModuleNetwork(nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1)))
TWIN = MLP(hidden=(4,))


def test_it_equals_the_mlp_with_the_same_weights():
    weights = TWIN.init(3)
    assert MINE.shapes == TWIN.shapes
    for x in (0.1, 2.3, 7.0):
        ours, theirs = (net(weights, torch.tensor(x), ())[0] for net in (MINE, TWIN))
        assert torch.equal(ours, theirs)
        assert MINE.fold(weights)(x, ()) == pytest.approx(TWIN.fold(weights)(x, ()), abs=1e-7)


def test_a_run_with_it_equals_that_with_the_mlp(tmp_path):
    for name, net in (("module", MINE), ("mlp", TWIN)):
        learned = Learned(net, [TWIN.init(0)], 0.1)
        train(Toy(), SGD, learned, total_steps=6, folder=tmp_path / name)
    ours, theirs = ([row["lr"] for row in steps_of(tmp_path / n)] for n in ("module", "mlp"))
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_first_weights_are_a_pure_function_of_the_seed_and_leave_no_trace():
    before = [p.clone() for p in MINE.module.parameters()]
    state = torch.get_rng_state()
    first, again, other = MINE.init(1), MINE.init(1), MINE.init(2)
    assert all(map(torch.equal, first, again)) and not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, before, MINE.module.parameters()))
    zero = MINE.init(1, "zero")
    assert torch.equal(zero[0], first[0]) and not zero[-1].any() and not zero[-2].any()
    with pytest.raises(ValueError, match="takes 'linear' or 'zero'"):
        MINE.init(1, "narrow")


def test_it_is_learned_along_a_run():
    online = OnlineMLRSNet(MINE, gamma=0.1, period=3)
    outcome = train(Toy(), SGD, online, total_steps=9)
    assert float(outcome.state.updates) == 3
    assert not torch.equal(outcome.state.phi[0], online.init().phi[0])


@pytest.mark.parametrize("kind", [Learned, SelfTuning])
def test_evolution_strategies_learn_it_as_they_do_the_mlp(kind):
    inputs, outputs = (1, 1) if kind is Learned else (len(INPUTS), 2)
    sizes = {"inputs": inputs, "outputs": outputs}
    many = nn.Sequential(nn.Linear(inputs, 2), nn.ReLU(), nn.Linear(2, outputs))
    ends = []
    for net in (ModuleNetwork(many, **sizes), MLP(hidden=(2,), **sizes)):
        weights = MLP(hidden=(2,), **sizes).init(0)
        learner = Learned(net, [weights], 1.0) if kind is Learned else SelfTuning(weights, net)
        plan = Plan(
            *(DigitsProblems(lengths=(8, 8)), PersistentES(pairs=2), Final(), Fixed(8)),
            **{"updates": 1, "episodes": 1, "pool": 9, "held_out": 1},
        )
        done = meta_train(plan, learner, weights)
        ends.append((done.best_score, done.phi))
    assert ends[0][0] == pytest.approx(ends[1][0], abs=1e-5)
    for ours, theirs, start in zip(ends[0][1], ends[1][1], weights, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        assert not torch.equal(ours, start)


def test_a_checkpoint_keeps_the_weights_and_needs_the_module(tmp_path):
    learned = Learned(MINE, [MINE.init(5)], 0.1)
    checkpoint.save(tmp_path / "mine", learned, trained_on={}, card="")
    with pytest.raises(checkpoint.CheckpointError, match=r"pass net=ModuleNetwork\(module"):
        checkpoint.load_pretrained(tmp_path / "mine")
    again = checkpoint.load_pretrained(tmp_path / "mine", net=MINE)
    assert outputs_of(again) == outputs_of(learned)
    other = ModuleNetwork(nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)))
    for net in (other, TWIN):
        with pytest.raises(checkpoint.CheckpointError, match="was written for ModuleNetwork"):
            checkpoint.load_pretrained(tmp_path / "mine", net=net)


def outputs_of(learned):
    net, (weights,) = learned.net, learned.stages
    return [float(net(weights, torch.tensor(x), ())[0]) for x in (0.5, 2.0)]


class Stray(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.scale * x


@pytest.mark.parametrize(
    "module, options, message",
    [
        (nn.Linear(2, 1), {}, r"takes no tensor of shape \(1,\)"),
        (nn.Linear(1, 3), {}, r"to \(3,\); needed is a tensor of shape \(1,\)"),
        (nn.LSTM(1, 1), {}, "takes no tensor of shape"),
        (nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)), {}, "has buffers"),
        (Stray(), {}, "scale belong to no part with reset_parameters"),
        (nn.ReLU(), {}, "a torch module is needed"),
        (nn.Linear(1, 1), {"floor": 2.0}, "floor at least 0 and below 1"),
        (nn.Linear(1, 1), {"outputs": 0}, "at least 1"),
    ],
)
def test_what_is_of_no_use_is_refused(module, options, message):
    with pytest.raises(ValueError, match=message):
        ModuleNetwork(module, **options)
