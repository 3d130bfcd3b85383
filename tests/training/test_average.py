"""`average`: the formula, torch's `AveragedModel`, and runs that are otherwise as without."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from meta_lr import polynomial_average, train
from meta_lr.lrbench.folders import result_of
from meta_lr.methods.basic import Cosine
from meta_lr.records.reader import NAME, read_record, read_rows
from meta_lr.testing.compare import difference, leaves
from meta_lr.training import loop
from meta_lr.training.average import RunningAverage
from meta_lr.training.evaluation import measure
from meta_lr.training.loop import StoppedError
from tests.commands import SMALL, outcome, own_place, runs
from tests.short_runs import ADAM, SGD, batches_of, ends, record_of, stop_when
from tests.toys import Net, Toy
from tests.training.test_loop_divergence import Poisoned
from tests.training.test_loop_resume import dies_at


def slow_average(points):
    """Shamir and Zhang 2013, in Python's numbers: all points are kept, the rule is as printed."""
    mean = 0.0
    for t, point in enumerate(points, start=1):
        mean = (1 - (8 + 1) / (t + 8)) * mean + (8 + 1) / (t + 8) * point
    return mean


def averaged(model):
    return AveragedModel(model, avg_fn=polynomial_average, use_buffers=True)


def state_of(model):
    return leaves(dict(model.state_dict()))


# -------------------------------------------------------------------------------- the formula


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_the_formula_is_that_of_the_paper(kind):
    g = torch.Generator().manual_seed(0)
    points = torch.randn(60, 5, dtype=kind, generator=g)
    mean = points[0]
    for count in range(1, 60):
        mean = polynomial_average(mean, points[count], count)
    for column in range(5):
        assert mean[column].item() == pytest.approx(slow_average(points[:, column].tolist()))


def test_it_needs_no_run_length_and_weighs_the_last_ninth_most():
    points = torch.eye(900)  # the weights after step t are the t-th unit vector
    mean = points[0]
    for count in range(1, 900):
        mean = polynomial_average(mean, points[count], torch.tensor(count))
    assert mean.sum() == pytest.approx(1.0, abs=1e-4)
    assert mean[800:].sum() == pytest.approx(1 - (8 / 9) ** 9, abs=0.01)


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.uint8])
def test_what_holds_no_floating_point_numbers_keeps_its_last_value(kind):
    old, new = torch.tensor([0, 1], dtype=kind), torch.tensor([1, 0], dtype=kind)
    assert torch.equal(polynomial_average(old, new, 3), new)


def test_infinities_that_stay_are_no_nan():
    mask = torch.full((2, 2), -math.inf).triu(1)
    for count in (0, 1, 100):
        assert torch.equal(polynomial_average(mask.clone(), mask, count), mask)


class Elsewhere(torch.Tensor):
    """A number as on an accelerator: the host would wait for its value."""

    is_cpu = False

    def item(self):
        raise AssertionError("the host waits for the accelerator")

    __int__ = __float__ = __bool__ = __index__ = item


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_no_accelerator_is_waited_for(kind):
    g = torch.Generator().manual_seed(0)
    mean, weights = torch.randn(2, 50, dtype=kind, generator=g).unbind()
    for count in (1, 7, 1000):
        found = polynomial_average(mean, weights, torch.tensor(count).as_subclass(Elsewhere))
        assert found.dtype == kind
        assert torch.allclose(found, polynomial_average(mean, weights, count), rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------- in the loop


class Masked(Net):
    """Besides BatchNorm: a frozen parameter, a mask, and buffers that are replaced at each step."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("least", torch.tensor(math.inf))
        self.frozen = nn.Parameter(torch.tensor([2.0, math.inf]), requires_grad=False)

    def forward(self, x):
        if self.training:
            self.calls = self.calls + 1
            self.least = torch.minimum(self.least, x.min())
        return super().forward(x)


@dataclass(frozen=True)
class MaskedToy(Toy):
    name: str = field(default="masked", init=False)

    def model(self):
        torch.manual_seed(self.seed)
        return Masked()


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
def test_the_loop_s_average_is_exactly_that_of_an_averaged_model(optimizer):
    models = []

    class Plain(RunningAverage):
        """Beside the loop's own average, updates torch's as a loop of somebody's own does."""

        def __init__(self, model, *, on, ema):
            super().__init__(model, on=on, ema=ema)
            models.append(averaged(model))

        def after_step(self, step):
            super().after_step(step)
            models[0].update_parameters(self._model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "RunningAverage", Plain)
        found = train(MaskedToy(), optimizer, Cosine(0.1), total_steps=40, average=True)
    assert difference(state_of(models[0].module), state_of(found.average)) == ""
    assert difference(state_of(found.model), state_of(found.average)) != ""
    statistics = found.average.norm
    assert not torch.equal(statistics.running_var, found.model.norm.running_var)
    assert statistics.num_batches_tracked == 40
    assert found.average.calls == pytest.approx(slow_average(range(1, 41)))
    assert found.average.frozen.tolist() == [2.0, math.inf]
    assert torch.equal(found.average.mask, found.model.mask)
    assert found.average.least.isfinite()


def test_a_run_with_an_average_is_the_run_without_and_rows_more(tmp_path):
    run = partial(train, Toy(), SGD, Cosine(0.1), total_steps=20, eval_every=4)
    curves = []
    plain = run(folder=tmp_path / "plain")
    found = run(folder=tmp_path / "average", average=True, until=lambda curve: curves.append(curve))
    assert plain.average is None and set(plain.test) == {"last", "best"}
    assert b"average" not in record_of(tmp_path / "plain")
    tested = found.test.pop("average")
    assert difference(ends(plain), ends(found)) == ""
    assert found.best == plain.best and len(curves[-1]) == 5

    rows = read_rows(tmp_path / "average")
    extra = [row for row in rows if row.get("weights") == "average"]
    assert [(row["kind"], row["step"], row["split"]) for row in extra] == [
        ("eval", 20, "val"),
        ("eval", 20, "test"),
    ]
    for row in extra:
        metrics = measure(Toy(), found.average, row["split"], batches_of(Toy()))
        assert {name: row[name] for name in metrics} == metrics
    assert tested == metrics != found.test["last"]
    assert rows.pop(0)["average"] is True
    lines = record_of(tmp_path / "average").splitlines()[1:]
    assert [line for line in lines if b'"average"' not in line] == record_of(
        tmp_path / "plain"
    ).splitlines()[1:]


def test_a_run_with_an_average_that_stops_at_every_step_goes_on_exactly(tmp_path):
    run = partial(train, MaskedToy(), ADAM, Cosine(0.1), total_steps=12, eval_every=4, average=True)
    whole = run(folder=tmp_path / "whole")
    for step in range(12):
        with pytest.raises(StoppedError):
            run(folder=tmp_path / "parts", stop=stop_when(1 if step else 0))
    for _ in ("it ends", "it is only read"):
        again = run(folder=tmp_path / "parts")
        assert difference(ends(whole), ends(again)) == ""
        assert difference(state_of(whole.average), state_of(again.average)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def test_a_run_with_an_average_that_dies_goes_on_from_its_last_save(tmp_path, monkeypatch):
    run = partial(train, Toy(), SGD, Cosine(0.1), total_steps=9, save_every=2, average=True)
    whole = run(folder=tmp_path / "whole")
    monkeypatch.setattr(loop, "_FLUSH_SECONDS", -1.0)

    parts = tmp_path / "parts"
    for death in (2, 6):
        with pytest.raises(KeyboardInterrupt):
            run(listener=dies_at(death), folder=parts)
    run(folder=parts)
    lines = (parts / NAME).read_bytes().splitlines(keepends=True)
    assert b'"average"' in lines[-2]
    (parts / NAME).write_bytes(b"".join(lines[:-1]))  # it dies before its end is written
    curves = []
    again = run(folder=parts, until=lambda curve: curves.append(len(curve)))
    assert curves == [2]  # after steps 5 and 9; the average is no part of the curve
    assert difference(ends(whole), ends(again)) == ""
    assert difference(state_of(whole.average), state_of(again.average)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def test_a_folder_without_an_average_is_refused(tmp_path):
    run = partial(train, Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path)
    with pytest.raises(StoppedError):
        run(stop=stop_when(2))
    with pytest.raises(ValueError, match="holds a run with average None, not True; use another"):
        run(average=True)
    assert run().status == "finished"


def test_what_has_diverged_is_not_measured_at_the_average(tmp_path):
    run = partial(train, Poisoned(), SGD, Cosine(0.1), total_steps=20, folder=tmp_path)
    for _ in ("it ends", "it is only read"):
        found = run(average=True)
        assert (found.status, found.test) == ("diverged at step 6", {})
    assert [row["split"] for row in read_record(tmp_path).evaluations] == ["val"]
    assert all(p.isfinite().all() for p in found.average.parameters())  # that of six steps


def test_a_run_that_is_not_tested_is_not_measured_at_the_average_either(tmp_path):
    run = partial(train, Toy(), SGD, Cosine(0.1), total_steps=6, average=True)
    ended = run(until=lambda curve: "enough")
    untested = run(test=False, folder=tmp_path)
    assert ended.test == untested.test == {}
    assert [row["weights"] for row in read_record(tmp_path).evaluations] == [
        "current",
        "current",
    ]


# -------------------------------------------------------------------------- the command line


def test_the_command_line_switches_the_average_on(tmp_path, monkeypatch, capsys):
    place = own_place(tmp_path, monkeypatch)
    arguments = [*SMALL, "optimizer=adam", "eval_every=10"]
    code, out, err = outcome(capsys, "train", *arguments)
    assert (code, "average" in out) == (0, False), err
    (plain,) = runs(place)
    code, out, err = outcome(capsys, "train", *arguments, "average=true")
    assert code == 0, err
    (with_average,) = set(runs(place)) - {plain}
    rows = {row["split"]: row for row in read_rows(with_average) if row.get("weights") == "average"}
    lines = out.splitlines()
    assert f"(best on val), {rows['test']['loss']:.4f} (average)\n  cost 30 steps" in out
    assert any(
        f"step 30/30  val (average) loss {rows['val']['loss']:.4f}  cost" in x for x in lines
    )
    (end,) = (line for line in lines if "finished after" in line)
    assert [f"({name})" in end for name in ("last", "best", "average")] == [True] * 3
    assert end.count("test loss") == 3 and "val" not in end
    ours, theirs = result_of(with_average), result_of(plain)
    assert (ours.val_loss, ours.test_loss, ours.curve) == (
        theirs.val_loss,
        theirs.test_loss,
        theirs.curve,
    )


@pytest.mark.parametrize("command", ["train", "transfer"])
def test_help_names_the_option(capsys, tmp_path, monkeypatch, command):
    own_place(tmp_path, monkeypatch)
    _, out, _ = outcome(capsys, command, "--help")
    (line,) = (line for line in out.splitlines() if "an average of the last weights" in line)
    assert line.split()[0] == "average=false"
