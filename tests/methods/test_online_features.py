"""Online MLR-SNet that reads features: exact meta-gradients, exact resume, export and card."""

from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import torch

from meta_lr import checkpoint, vectors
from meta_lr.bilevel.estimators import Adjoint, ClosedForm, FirstOrder, Unroll
from meta_lr.methods.features.features import FEATURES, Features
from meta_lr.methods.features.loss import LOSS_FEATURES
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.mlr_snet.paper import PaperMLRSNet
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.protocol import Need
from meta_lr.testing.compare import leaves
from meta_lr.training.loop import StoppedError, train
from tests.commands import outcome, own_place
from tests.smooth import Waiting
from tests.toys import Toy

ALL = Features(tuple(LOSS_FEATURES))
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2)
NETS = [LSTM(hidden=5, inputs=ALL.inputs, floor=0.01), MLP(hidden=(6,), inputs=ALL.inputs)]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@dataclass(frozen=True)
class Told:
    """An estimator that tells what it found."""

    inner: object
    found: list = field(default_factory=list)
    second_order = False

    @property
    def needs(self):
        return self.inner.needs

    def __call__(self, *asked):
        self.found.append(self.inner(*asked))
        return self.found[-1]


class Run(Waiting):
    """A run of 50 steps that waits in its third one, where an update is due."""

    def learner(self, phi):
        return Learned(self.net, (phi,), self.rate, features=ALL)

    def update(self, estimator, look_ahead, phi=None):
        """Let the method learn at this step; return what the estimator found."""
        told = Told(estimator)
        online = OnlineMLRSNet(
            self.net, self.rate, period=3, look_ahead=look_ahead, estimator=told, features=ALL
        )
        memory, phi = self.state.memory, phi or self.phi
        state = online.init()._replace(phi=tuple(phi), memory=memory, gamma=self.rate)
        with torch.no_grad():
            online(self.view(2, self.loss), state)
        (found,) = told.found
        return found

    def slope_error(self, look_ahead, grads):
        """Relative error of the slope in a random direction, by central differences."""
        g = torch.Generator().manual_seed(0)
        way = [torch.randn(w.shape, generator=g) for w in self.phi]
        up, down = (
            self.update(FirstOrder(), look_ahead, vectors.axpy(size, way, self.phi)).loss
            for size in (1e-5, -1e-5)
        )
        measured = (up - down) / 2e-5
        return abs(vectors.dot(grads, way).item() - measured) / abs(measured)


def waiting(net):
    return Run("mlp", SGD, net)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("look_ahead", [1, 3])
@pytest.mark.parametrize("net", NETS)
def test_the_exact_estimators_agree_and_so_do_central_differences(net, look_ahead):
    run = waiting(net)
    kinds = [Adjoint(), Unroll(), *([ClosedForm()] if look_ahead == 1 else [])]
    first, *others = (run.update(kind, look_ahead) for kind in kinds)
    for other in others:
        assert other.loss == pytest.approx(first.loss, rel=1e-12)
        torch.testing.assert_close(other.grads, first.grads, rtol=1e-8, atol=1e-13)
    assert run.slope_error(look_ahead, first.grads) < 1e-6


@pytest.mark.usefixtures("double")
def test_the_differences_notice_features_that_are_cut_off(monkeypatch):
    call = Features.__call__

    def cut(features, loss, state, **now):
        return call(features, loss.detach(), tuple(s.detach() for s in state), **now)

    run = waiting(NETS[1])
    monkeypatch.setattr(Features, "__call__", cut)
    assert run.slope_error(3, run.update(Adjoint(), 3).grads) > 1e-5  # and 1e-6 is asked for


@pytest.mark.parametrize(
    "method, options",
    [
        (OnlineMLRSNet, {}),
        (OnlineMLRSNet, {"look_ahead": 2, "estimator": Adjoint()}),
        (PaperMLRSNet, {"counts": "run"}),
    ],
)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, method, options):
    controller = method(NETS[0], period=3, meta_lr=0.05, features=ALL, **options)
    run = partial(train, Toy(), SGD, controller, total_steps=24)
    calls = iter(range(14))
    whole = run(folder=tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(folder=tmp_path / "parts", stop=lambda: next(calls, None) is None)
    resumed = run(folder=tmp_path / "parts")
    assert whole.state.updates == 8
    assert leaves(resumed.state._asdict()) == leaves(whole.state._asdict())


@pytest.mark.parametrize("net", NETS)
def test_what_is_exported_gives_the_rates_of_a_run_that_no_longer_learns(net):
    controller = OnlineMLRSNet(net, gamma=0.5, period=100, features=ALL)
    rates = {"online": [], "exported": []}
    first = controller.init()._replace(gamma=0.5)
    for name, steering in (("online", controller), ("exported", controller.export(first))):

        def keep(row, name=name):
            if row["kind"] == "step":
                rates[name].append(row["lr"])

        train(Toy(), SGD, steering, total_steps=30, listener=keep)
    assert rates["exported"] == pytest.approx(rates["online"], rel=1e-5)
    assert max(rates["online"]) > 1.01 * min(rates["online"])


def test_the_loss_may_be_on_another_device_than_phi_and_the_memory():
    """As where the model is on a GPU; "meta" stands in for the other device."""
    net = NETS[0]
    learned = Learned(net, [net.init(0)], InitialLossGamma(10), features=ALL)
    there = [tuple(t.to("meta") for t in ts) for ts in (net.init(0), learned.init().memory)]
    rate, memory = learned.pure(there[0], torch.tensor(2.0), there[1], step=3, total_steps=9)
    assert {t.device.type for t in (rate, *memory)} == {"meta"}


def test_what_the_features_need_is_needed(monkeypatch):
    plain = OnlineMLRSNet(LSTM(hidden=3))
    assert Need.EPOCHS not in plain.needs and Need.HORIZON in plain.needs
    counted = FEATURES["progress"]._replace(needs=Need.LOSS | Need.EPOCHS)
    monkeypatch.setitem(FEATURES, "progress", counted)
    assert Need.EPOCHS in replace(plain, features=Features(("progress",))).needs


def test_features_that_the_network_cannot_read_are_refused():
    with pytest.raises(ValueError, match=r"reads 1 features, but .* gives 2; build .* inputs=2"):
        OnlineMLRSNet(LSTM(hidden=3), features=Features(("loss", "progress")))


def test_the_command_learns_with_features_and_keeps_them(tmp_path, monkeypatch, capsys):
    own_place(tmp_path, monkeypatch)
    small = ["net.hidden=4", "model.hidden=[8]", "total_steps=24", "lr.period=4"]
    code, out, err = outcome(capsys, "meta-train", "features=horizon", *small, "checkpoint=mine")
    assert (code, err) == (0, "")
    assert "updates of phi: 6" in out
    learned, contract = checkpoint.load(tmp_path / "mine")
    assert learned.features.names[-2:] == ("progress", "run_length")
    assert contract["arguments"]["inputs"] == 7
    assert "training loss (as relative_loss, " in (tmp_path / "mine" / "README.md").read_text()
