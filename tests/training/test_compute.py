"""Number formats, memory order, compilation, averages and groups of the loop."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn

from meta_lr.methods.basic import Constant, Cosine
from meta_lr.records.reader import read_record
from meta_lr.training.compute import Compute
from meta_lr.training.loop import train
from meta_lr.training.outcome import StoppedError
from tests.controllers import Says
from tests.short_runs import SGD, ends, online, record_of, stop_when
from tests.toys import Toy


def run(compute, controller=None, task=None, **options):
    task, controller = task or Toy(dropout=0.0), controller or Cosine(0.1)
    return train(task, SGD, controller, total_steps=8, eval_every=4, compute=compute, **options)


def test_bf16_changes_the_forward_pass_and_keeps_the_weights():
    whole, half = run(Compute()), run(Compute(precision="bf16"))
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    assert half.val["loss"] != whole.val["loss"]
    assert half.val["loss"] == pytest.approx(whole.val["loss"], rel=0.02)


def test_experiments_see_the_loss_of_the_run_in_its_format():
    class Sees(Says):
        def __call__(self, view, state):
            again = view.sandbox.loss([p.detach().clone() for p in view.params])
            assert torch.equal(again, view.loss)
            return super().__call__(view, state)

    from meta_lr.protocol import Need

    controller = Sees(0.1, Need.LOSS | Need.PARAMS | Need.META)
    assert run(Compute(precision="bf16"), controller).status == "finished"


@dataclass(frozen=True)
class Overflows(Toy):
    """The gradient of its batch 3 does not fit into half precision, though its loss does."""

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        return Steep.apply(loss) if torch.equal(batch[0], self.batch("train", 3)[0]) else loss


class Steep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * math.inf


class Calls(NamedTuple):
    calls: torch.Tensor


class Counts(Says):
    """Counts its calls."""

    def init(self):
        return Calls(torch.zeros(()))

    def __call__(self, view, state):
        return self.answer, Calls(state.calls + 1)


def test_fp16_skips_a_step_whose_gradient_is_infinite(tmp_path):
    task, fp16 = Overflows(dropout=0.0), Compute(precision="fp16")
    outcome = run(fp16, Counts(0.1), task, folder=tmp_path, average=True)
    record = read_record(tmp_path)
    assert outcome.status == "finished" and outcome.state.calls == 7  # the controller was not asked
    assert [row["step"] for row in record.steps if row.get("skipped")] == [3]
    assert record.end["num_skipped"] == 1


def test_the_scale_of_the_loss_resumes(tmp_path):
    task, fp16 = Overflows(), Compute(precision="fp16")
    whole = run(fp16, Counts(0.1), task, folder=tmp_path / "whole", ema=0.9)
    for steps in (2, 3):
        with pytest.raises(StoppedError):
            run(fp16, Counts(0.1), task, folder=tmp_path / "parts", ema=0.9, stop=stop_when(steps))
    again = run(fp16, Counts(0.1), task, folder=tmp_path / "parts", ema=0.9)
    assert ends(again) == ends(whole)
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def test_a_folder_of_another_number_format_is_refused(tmp_path):
    run(Compute(), folder=tmp_path)
    with pytest.raises(ValueError, match="precision"):
        run(Compute(precision="bf16"), folder=tmp_path)


@dataclass(frozen=True)
class Pictures(Toy):
    """Its network has a convolution."""

    def model(self):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            net = nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 4, 1), nn.Flatten())
            return nn.Sequential(net, nn.BatchNorm1d(4), nn.Linear(4, 3))


def test_channels_last_is_the_order_of_the_weights():
    model = run(Compute(channels_last=True), task=Pictures()).model
    assert model[0][1].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_compiled_run_keeps_plain_names_and_numbers(monkeypatch):
    compiled = []

    def eager(module, mode):
        compiled.append(mode)
        return compile_(module, backend="eager")

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", eager)
    plain, other = run(Compute(), online()), run(Compute(compile="default"), online())
    assert compiled == ["default"]
    assert ends(other) == ends(plain)


def test_an_ema_is_that_of_torch():
    outcome = run(Compute(), Constant(0.1), ema=0.6)
    model = Toy(dropout=0.0).model().train()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.6), use_buffers=True
    )
    optimizer = SGD(model.parameters())
    for step in range(8):
        optimizer.zero_grad()
        Toy().loss(model, Toy().batch("train", step)).backward()
        optimizer.step()
        average.update_parameters(model)
    found, expected = outcome.average.state_dict(), average.module.state_dict()
    for name, tensor in expected.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(found[name], tensor)


def test_norm_decay_is_that_of_biases_and_norms():
    sizes = {}

    def make(groups):
        for group in groups:
            sizes[group.get("weight_decay")] = {p.ndim for p in group["params"]}
        return torch.optim.SGD(groups, lr=0.1, weight_decay=0.5)

    train(Toy(), make, Constant(0.1), total_steps=1, norm_decay=0.0)
    assert sizes == {None: {2}, 0.0: {1}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "choose fp32, bf16 or fp16"),
        ({"compile": "fast"}, "choose one of default"),
        ({"workers": -1}, "at least 0"),
    ],
)
def test_what_there_is_not_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Compute(**options)


def test_two_averages_are_refused():
    with pytest.raises(ValueError, match="choose one"):
        run(Compute(), average=True, ema=0.9)
    with pytest.raises(ValueError, match="between 0 and 1"):
        run(Compute(), ema=1.0)
