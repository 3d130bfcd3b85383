"""A step of several parts: the run is the same on any number of processes."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch

from meta_lr.methods.autolr.method import AutoLR
from meta_lr.methods.autolrs.method import AutoLRS
from meta_lr.methods.basic import Constant, Cosine
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.processes import ElsewhereError
from meta_lr.records.reader import NAME
from meta_lr.testing.compare import difference
from meta_lr.training.compute import Compute
from meta_lr.training.evaluation import measure
from meta_lr.training.loop import train
from meta_lr.training.outcome import StoppedError
from meta_lr.training.parts import Parts
from meta_lr.training.sandbox import Sandbox
from meta_lr.training.stepper import Stepper
from tests.controllers import Says
from tests.ranks import on_ranks
from tests.short_runs import ADAM, SGD, batches_of, ends, online, record_of, stop_when
from tests.toys import Toy

CONTROLLERS = {
    "constant": Constant(0.1),
    "cosine": Cosine(0.1),
    "online": online(),
    "learned": None,  # made below, from a run
    "autolr": AutoLR(0.1, period=4, batches=2),
    "autolrs": AutoLRS(1e-3, 1.0, 4, shortest=2, ratio=2, first_trials=2, batches=1),
}


def learned():
    net = LSTM(hidden=4)
    made = OnlineMLRSNet(net, gamma=0.2, period=3, meta_lr=0.01)
    return made.export(made.init()._replace(gamma=0.2))


def run(controller, *, parts=1, task=None, steps=8, **options):
    options = {"clip": 0.5, "eval_every": 3, **options}
    return train(
        task or Toy(), SGD, controller, total_steps=steps, compute=Compute(parts=parts), **options
    )


def same(came, expected):
    """Raise what a process raised, or say where its outcome is another one."""
    if isinstance(came, Exception):
        raise came
    return difference(came, expected)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_two_processes_equal_one_bit_for_bit(name):
    controller = CONTROLLERS[name] or learned()
    alone = run(controller, parts=2)
    assert alone.status == "finished"
    assert (alone.search_cost > 0) is name.startswith(("auto", "online"))
    for came in on_ranks(2, lambda rank: ends(run(controller, parts=2))):
        assert same(came, ends(alone)) == ""


@dataclass(frozen=True)
class Double(Toy):
    """In float64, so that only the order of the sums differs."""

    def model(self):
        return super().model().double()

    def batch(self, split, index, draw=None):
        x, y = super().batch(split, index, draw)
        return x.double(), y


def weights(outcome):
    return [t for t in outcome.model.state_dict().values() if t.is_floating_point()]


@pytest.mark.parametrize("processes", [2, 4])
def test_four_parts_on_several_processes_differ_only_in_rounding(processes):
    task, controller = Double(dropout=0.3), online()
    expected = weights(run(controller, parts=4, task=task))
    for came in on_ranks(processes, lambda _: weights(run(controller, parts=4, task=task))):
        torch.testing.assert_close(came, expected, rtol=1e-12, atol=1e-12)


def test_without_batch_statistics_parts_are_the_whole_batch():
    task = Double(dropout=0.0, norm=False)
    whole = weights(run(Constant(0.1), task=task))
    torch.testing.assert_close(weights(run(Constant(0.1), parts=4, task=task)), whole)


def test_statistics_of_a_step_are_the_mean_over_its_parts():
    task = Double(dropout=0.0)
    took = run(Constant(0.0), parts=2, task=task, steps=1).model
    expected = []
    for part in range(2):
        twin = task.model().train()
        twin(task.batch("train", 0)[0][8 * part : 8 * part + 8])
        expected.append([b for b in twin.buffers() if b.is_floating_point()])
    found = [b for b in took.buffers() if b.is_floating_point()]
    means = [(a + b) / 2 for a, b in zip(*expected, strict=True)]
    assert found
    torch.testing.assert_close(found, means, rtol=1e-14, atol=0)


def test_a_buffer_of_constants_does_not_change():
    buffers = [torch.tensor([0.1, -torch.inf, 0.7]), torch.tensor(3)]
    before = [b.clone() for b in buffers]
    for _ in Parts(3).each(buffers):
        buffers[1] += 1
    assert torch.equal(buffers[0], before[0]) and buffers[1] == 4


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    expected = run(online(), parts=2, folder=tmp_path / "whole", save_every=2)
    go = partial(run, online(), parts=2, folder=tmp_path / "parts", save_every=2)

    def until(steps, rank, stops=(0, 1)):
        with pytest.raises(StoppedError) as stopped:
            go(stop=stop_when(steps) if rank in stops else None)
        return stopped.value.step

    assert on_ranks(2, lambda rank: until(3, rank)) == [3, 3]
    assert until(2, 0) == 5
    assert on_ranks(2, lambda rank: until(1, rank, stops=(1,))) == [6, 6]  # one was asked alone
    came = on_ranks(2, lambda rank: ends(go()))
    assert [same(one, ends(expected)) for one in came] == ["", ""]
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")
    assert same(ends(go()), ends(expected)) == ""  # it is finished, and only read
    again = on_ranks(2, lambda rank: ends(go()))
    assert [same(one, ends(expected)) for one in again] == ["", ""]


def test_only_the_first_process_writes_and_calls_the_listener(tmp_path):
    def work(rank):
        rows = []
        run(Cosine(0.1), parts=2, folder=tmp_path / str(rank), listener=rows.append)
        return len(rows)

    first, second = on_ranks(2, work)
    assert first > 8 and second == 0
    assert (tmp_path / "0" / NAME).exists() and not (tmp_path / "1").exists()


def test_a_folder_of_another_run_is_refused_everywhere(tmp_path):
    run(Constant(0.2), parts=2, folder=tmp_path)
    first, second = on_ranks(2, lambda rank: run(Constant(0.3), parts=2, folder=tmp_path))
    assert isinstance(first, ValueError) and isinstance(second, ElsewhereError)
    assert str(first) in str(second)


@dataclass(frozen=True)
class Holed(Toy):
    """The second half of batch 5 is not finite."""

    def batch(self, split, index, draw=None):
        x, y = super().batch(split, index, draw)
        if (split, index) == ("train", 5):
            x[self.batch_size // 2 :] = torch.nan
        return x, y


def test_a_loss_that_is_not_finite_in_one_process_ends_the_run_in_all(tmp_path):
    def work(rank):
        return run(Constant(0.1), parts=2, task=Holed(), folder=tmp_path).status

    assert on_ranks(2, work) == ["diverged at step 5"] * 2


class Off(Says):
    """Returns a slightly different learning rate in one process."""

    def __call__(self, view, state):
        lr, state = super().__call__(view, state)
        off = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
        return lr * (1 + 1e-15 * off), state


def test_the_learning_rate_of_the_first_process_holds():
    expected = ends(run(Says(0.1), parts=2))
    for came in on_ranks(2, lambda rank: ends(run(Off(0.1), parts=2))):
        assert same(came, expected) == ""


@dataclass(frozen=True)
class Uneven(Toy):
    """Its split "val" has 101 examples in seven batches."""

    def num_batches(self, split):
        return 7 if split == "val" else super().num_batches(split)

    def batch(self, split, index, draw=None):
        x, y = super().batch(split, index, draw)
        return (x[:5], y[:5]) if (split, index) == ("val", 6) else (x, y)


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_an_evaluation_is_the_same_on_any_number_of_processes(processes):
    task = Uneven()
    model = task.model()
    expected = measure(task, model, "val", batches_of(task))
    came = on_ranks(processes, lambda rank: measure(task, model, "val", batches_of(task)))
    assert came == [expected] * processes


def test_the_loss_at_the_run_s_own_weights_is_the_run_s_loss_with_parts_too():
    def losses(rank=0):
        stepper = Stepper(
            Toy(),
            ADAM,
            online(),
            total_steps=4,
            seed=0,
            clip=None,
            compute=Compute(parts=2),
            device=torch.device("cpu"),
            stop=lambda: False,
        )
        before = [p.detach().clone() for p in stepper.params]
        buffers = {name: b.clone() for name, b in stepper.model.named_buffers()}
        taken = stepper.take(0)
        again = stepper.sandbox.loss_with(before, buffers, "train", None).detach()
        return {"taken": taken, "again": again}

    alone = losses()
    assert torch.equal(alone["taken"], alone["again"])
    for came in on_ranks(2, losses):
        assert torch.equal(came["taken"], alone["taken"])
        assert torch.equal(came["again"], alone["again"])


def test_a_sandbox_of_one_process_is_its_own_inside_a_group():
    def losses(rank):
        task = Toy(seed=rank)
        model = task.model().train()
        sandbox = Sandbox(model, SGD(model.parameters()), task.loss, task.batch, seed=0)
        with sandbox.trial() as trial:
            return [float(trial.step(0.1)) for _ in range(3)]

    assert on_ranks(2, losses) == [losses(0), losses(1)]


def test_parts_that_cannot_be_shared_are_refused():
    for came in on_ranks(2, lambda rank: run(Constant(0.1), parts=3)):
        assert "parts=3 cannot be shared equally by 2 processes" in str(came)
    for came in on_ranks(2, lambda rank: run(online(2), parts=2)):
        assert "look_ahead=2 differentiates several steps, which 2 processes" in str(came)
    with pytest.raises(ValueError, match="a batch of 16 examples has no 3 equal parts"):
        run(Constant(0.1), parts=3)
    with pytest.raises(ValueError, match="at least 1"):
        run(Constant(0.1), parts=0)
