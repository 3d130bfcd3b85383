"""MLR-SNet's meta-gradient against central differences, and the method along a run."""

from functools import partial
from itertools import pairwise

import pytest
import torch

from meta_lr.bilevel.estimators import ClosedForm, Unroll
from meta_lr.bilevel.objectives import Final
from meta_lr.bilevel.unroll import unroll
from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned, LearnedState
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.optim import rules
from meta_lr.protocol import StepView
from meta_lr.seeds import seed_model
from meta_lr.training.loop import train
from meta_lr.training.sandbox import Sandbox
from tests.reference.online import reference_run
from tests.smooth import Stopped
from tests.toys import Toy

OPTIMIZERS = {
    "plain": partial(torch.optim.SGD, lr=0.1),
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, lr=0.1, weight_decay=1e-2),
    "adamw": partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.1),
}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Point(Stopped):
    """A run that stopped after the gradient of its fourth step, ready to be asked for a rate."""

    def __init__(self, optimizer, *, net, clip=None, tied=False, groups=False, outside=False):
        self.task = Toy(tied=tied)
        self.model = self.task.model()
        params = list(self.model.parameters())
        if outside:
            params = params[2:]
        if groups:
            params = [{"params": params[2:]}, {"params": params[:2], "lr_scale": 0.3}]
        self.optimizer = OPTIMIZERS[optimizer](params)
        self.net, self.phi = net, tuple(3 * w for w in net.init(1))  # where the loss matters
        self.sandbox = Sandbox(
            self.model, self.optimizer, self.task.loss, self.task.batch, clip=clip, seed=0
        )
        self.state = LearnedState(net.memory())
        for step in range(4):
            loss = self.gradient(step)
            if step < 3:
                _, self.state = self.learner(self.phi)(self.view(3, loss), self.state)
                for group in self.optimizer.param_groups:
                    group["lr"] = 0.01
                self.optimizer.step()
        self.loss = loss

    def learner(self, phi):
        return Learned(
            self.net, (phi,), 1.0 if isinstance(self.optimizer, torch.optim.SGD) else 0.05
        )

    def view(self, step, loss, look_ahead=2):
        return StepView(
            OnlineMLRSNet(self.net, look_ahead=look_ahead),
            step,
            total_steps=20,
            loss=loss,
            params=self.params(),
            direction=lambda: rules.direction(self.optimizer),
            sandbox=self.sandbox,
        )

    def params(self):
        return [p for g in self.optimizer.param_groups for p in g["params"]]

    def estimate(self, phi, look_ahead, estimator=None):
        estimator = estimator or (ClosedForm() if look_ahead == 1 else Unroll())
        learner = self.learner(tuple(w.detach().requires_grad_() for w in phi))
        weights = Final()(0, look_ahead)
        return estimator(learner, self.state, self.view(3, self.loss, look_ahead), weights)

    def moved(self, direction, size):
        return tuple(w + size * d for w, d in zip(self.phi, direction, strict=True))


def worst_error(point, look_ahead):
    """Largest relative error of the directional derivative along 5 random directions of phi."""
    grads = point.estimate(point.phi, look_ahead).grads
    errors = []
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        direction = [torch.randn(w.shape, generator=g) for w in point.phi]
        slope = sum(float((a * d).sum()) for a, d in zip(grads, direction, strict=True))
        up = point.estimate(point.moved(direction, 1e-5), look_ahead).loss
        down = point.estimate(point.moved(direction, -1e-5), look_ahead).loss
        measured = (up - down) / 2e-5
        errors.append(abs(slope - measured) / abs(measured))
    return max(errors)


@pytest.mark.parametrize("net", [LSTM(hidden=6), MLP(hidden=(8,))])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("look_ahead", [1, 3])
def test_the_meta_gradient_agrees_with_central_differences(optimizer, net, look_ahead):
    assert worst_error(Point(optimizer, net=net), look_ahead) < 1e-6


@pytest.mark.parametrize(
    "options", [{"clip": 0.05}, {"tied": True}, {"groups": True}, {"clip": 0.05, "outside": True}]
)
def test_it_agrees_with_clipping_tied_weights_and_groups(options):
    assert worst_error(Point("sgd", net=LSTM(hidden=6), **options), 3) < 1e-6


def test_the_check_notices_a_detached_loss(monkeypatch):
    call = LSTM.__call__
    monkeypatch.setattr(LSTM, "__call__", lambda n, w, x, m: call(n, w, x.detach(), m))
    assert worst_error(Point("sgd", net=LSTM(hidden=6)), 3) > 1e-4  # and 1e-6 is asked for


def test_the_check_notices_a_cut_graph(monkeypatch):
    call = LSTM.__call__

    def cut(net, weights, loss, memory):
        return call(net, weights, loss, tuple(m.detach() for m in memory))

    monkeypatch.setattr(LSTM, "__call__", cut)
    assert worst_error(Point("sgd", net=LSTM(hidden=6)), 3) > 1e-5


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_step_without_second_derivatives_equals_the_unroll(optimizer):
    point = Point(optimizer, net=LSTM(hidden=6), groups=optimizer == "adam")
    direct = point.estimate(point.phi, 1)
    unrolled = point.estimate(point.phi, 1, Unroll())
    assert unrolled.loss == pytest.approx(direct.loss, rel=1e-12)
    torch.testing.assert_close(direct.grads, unrolled.grads, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_unroll_equals_a_plain_run_at_the_same_rates(optimizer, outside):
    point = Point(optimizer, net=LSTM(hidden=6), clip=0.5, outside=outside)
    with point.sandbox.trial() as trial:
        view = point.view(3, point.loss)
        unrolled = unroll(trial, point.learner(point.phi), point.state, view, Final()(0, 4))
    state, learner = point.state, point.learner(point.phi)
    for k in range(4):
        draw = k - 1 if k else None
        seed_model(0, "model", 3, *(() if draw is None else ("train", draw)))
        point.optimizer.zero_grad()
        loss = point.task.loss(point.model, point.task.batch("train", 3, draw))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(point.params(), 0.5)
        rate, state = learner(point.view(3 + k, loss.detach()), state)
        for group in point.optimizer.param_groups:
            group["lr"] = float(rate)
        point.optimizer.step()
    params = [p.detach() for p in point.params()]
    plain = point.sandbox.meta_loss(params)
    torch.testing.assert_close(unrolled, plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.SGD, lr=0.1, maximize=True),
        partial(torch.optim.Adam, lr=0.1, decoupled_weight_decay=True),
        partial(torch.optim.Adam, lr=0.1, amsgrad=True),
    ],
)
def test_options_that_higher_ignores_are_refused(optimizer):
    with pytest.raises(ValueError, match="switch it off"):  # at the first step, not the second
        train(
            Toy(), optimizer, OnlineMLRSNet(LSTM(hidden=4), period=50, look_ahead=2), total_steps=4
        )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_run_equals_the_reference_twin(momentum):
    controller = OnlineMLRSNet(LSTM(hidden=6), gamma=0.5, period=3, meta_lr=0.05, seed=2)
    task = Toy(dropout=0.0)
    rates = []

    def keep(row):
        if row["kind"] == "step":
            rates.append(row["lr"])

    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=momentum, weight_decay=1e-2)
    outcome = train(task, optimizer, controller, total_steps=20, listener=keep)
    expected, phi = reference_run(
        task,
        controller.init().phi,
        hidden=6,
        gamma=0.5,
        period=3,
        meta_lr=0.05,
        momentum=momentum,
        weight_decay=1e-2,
        total_steps=20,
    )
    assert rates == pytest.approx(expected, rel=1e-9)
    for mine, theirs in zip(outcome.state.phi, phi, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-10)
    assert float(outcome.state.updates) == 6


def test_the_rates_rise_from_far_too_small_ones():
    """On an easy problem a tiny rate is raised: the sign of the meta-gradient is right."""
    controller = OnlineMLRSNet(LSTM(hidden=6), gamma=0.02, period=1, meta_lr=0.05)
    first_last = []
    train(
        Toy(dropout=0.0),
        partial(torch.optim.SGD, lr=1.0),
        controller,
        total_steps=60,
        listener=lambda row: first_last.append(row.get("lr")) if row["kind"] == "step" else None,
    )
    assert first_last[-1] > 1.5 * first_last[0]


def test_snapshots_become_the_stages_of_the_export():
    controller = OnlineMLRSNet(MLP(hidden=(4,)), period=2, snapshots=(0.1, 0.5, 1.0))
    outcome = train(Toy(), OPTIMIZERS["sgd"], controller, total_steps=20)
    learned = controller.export(outcome.state, family="sgd_momentum")
    assert len(learned.stages) == 3
    assert all(
        torch.equal(a, b) for a, b in zip(learned.stages[-1], outcome.state.phi, strict=True)
    )
    assert not torch.equal(learned.stages[0][0], learned.stages[2][0])
    assert learned.family == "sgd_momentum"
    assert learned.loss_range == (outcome.state.low, outcome.state.high)


@pytest.mark.parametrize(
    ("loss", "classes", "expected"),
    [(2.302585, 10, 0.669), (0.5, 10, 0.160), (3.0, 100, 0.781), (0.3, 1000, 0.139)],
)
def test_gamma_by_the_authors_formula(loss, classes, expected):
    assert InitialLossGamma(classes)(loss) == pytest.approx(expected, abs=6e-4)


def test_a_run_that_is_first_asked_later_has_a_gamma_and_all_its_stages():
    controller = OnlineMLRSNet(LSTM(hidden=4), gamma=0.5, period=4, snapshots=(0.1, 0.5, 1.0))
    task = Toy(dropout=0.0)
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sandbox = Sandbox(model, optimizer, task.loss, task.batch)
    scheduler = ControlledLR(optimizer, controller, total_steps=10, sandbox=sandbox)
    taken = []
    for step in range(10):
        loss = task.loss(model, task.batch("train", step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        taken.append(optimizer.param_groups[0]["lr"])
        scheduler.step(loss)  # the lag of one: nothing was observed before the first step
    assert taken[0] == 0.1
    assert all(0.1 < rate < 0.5 for rate in taken[1:])
    assert len(scheduler.state_dict()["state"]["snapshots"]) >= 2


def test_gamma_is_positive_and_rises_with_the_loss():
    values = [InitialLossGamma(10)(x / 1000) for x in range(1, 2000)]
    assert min(values) > 0.0
    assert all(b >= a for a, b in pairwise(values))


@pytest.mark.parametrize(
    "options",
    [
        {"period": 0},
        {"look_ahead": 0},
        {"look_ahead": 2, "estimator": ClosedForm()},
        {"snapshots": ()},
        {"snapshots": (1.5,)},
        {"gamma": 0.0},
    ],
)
def test_unusable_options_are_refused(options):
    with pytest.raises(ValueError):
        OnlineMLRSNet(LSTM(), **options)
