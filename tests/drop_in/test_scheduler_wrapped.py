"""Optimizers inside of wrappers, in the manner of accelerate, and checkpoints by their name."""

from pathlib import Path

import pytest
import torch

import meta_lr
from meta_lr import checkpoint
from meta_lr.checkpoint import CheckpointError, load_pretrained
from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.basic import Constant, Cosine
from tests.controllers import Restart, Tenth, Witness
from tests.steering import build, rates


class Prepared(torch.optim.Optimizer):
    """An optimizer around another one that never runs its own `__init__`, and so has no hooks."""

    def __init__(self, optimizer, accumulate=1, scaler=None):
        self.optimizer, self.scaler = optimizer, scaler
        self.accumulate, self.num_calls = accumulate, 0
        self.step_was_skipped = False

    state = property(lambda self: self.optimizer.state)
    param_groups = property(lambda self: self.optimizer.param_groups)
    defaults = property(lambda self: self.optimizer.defaults)

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict):
        self.optimizer.load_state_dict(state_dict)

    @property
    def synchronizes(self):
        return self.num_calls % self.accumulate == 0

    def step(self, closure=None):
        self.num_calls += 1
        if self.synchronizes:
            self.optimizer.step(closure)


class PreparedScheduler:
    """Steps a scheduler as often as there are processes, but never beyond its `total_steps`."""

    def __init__(self, scheduler, optimizer, num_processes=1):
        self.scheduler, self.optimizer = scheduler, optimizer
        self.num_processes = num_processes

    def step(self, *args):
        if not self.optimizer.synchronizes:
            self.scheduler._step_count += 1
            return
        for _ in range(self.num_processes):
            if hasattr(self.scheduler, "total_steps"):
                if self.scheduler._step_count <= self.scheduler.total_steps:
                    self.scheduler.step(*args)
            else:
                self.scheduler.step(*args)


def sgd():
    p = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    p.grad = torch.ones_like(p)
    return torch.optim.SGD([p], lr=0.1)


EXP = meta_lr.Policy("exp", 0.1, gamma=0.9)


@pytest.mark.parametrize("prepare_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"total_steps": 5}])
def test_a_policy_advances_behind_a_wrapper_that_looks_for_total_steps(prepare_first, options):
    inner = sgd()
    optimizer = Prepared(inner)
    scheduler = ControlledLR(optimizer if prepare_first else inner, EXP, **options)
    prepared, taken = PreparedScheduler(scheduler, optimizer), []
    for _ in range(5):
        taken += rates(inner)
        optimizer.step()
        prepared.step()
    assert taken == pytest.approx([0.1 * 0.9**step for step in range(5)])


@pytest.mark.parametrize("num_processes", [1, 3])
def test_a_policys_run_length_counts_the_calls_that_a_wrapper_makes(num_processes):
    inner = sgd()
    optimizer = Prepared(inner)
    scheduler = ControlledLR(optimizer, Cosine(0.1), total_steps=4 * num_processes)
    prepared, taken = PreparedScheduler(scheduler, optimizer, num_processes), []
    for _ in range(4):
        taken += rates(inner)
        optimizer.step()
        prepared.step()
    plain, bare = ControlledLR(sgd(), Cosine(0.1), total_steps=4), []
    for _ in range(4):
        bare += rates(plain.optimizer)
        plain.optimizer.step()
        plain.step()
    assert taken == pytest.approx(bare)
    assert rates(inner) == pytest.approx([0.0], abs=1e-15)


def test_a_loss_steers_an_optimizer_inside_of_two_wrappers_under_accumulation():
    inner = sgd()
    optimizer = Prepared(Prepared(inner), accumulate=2)
    scheduler = ControlledLR(optimizer, Tenth())
    prepared, taken = PreparedScheduler(scheduler, optimizer, num_processes=3), []
    for loss in (1.0, 3.0, 2.0, 6.0):
        scheduler.observe(loss)
        optimizer.step()
        prepared.step()
        taken += rates(inner)
    assert taken == pytest.approx([0.1, 0.2, 0.2, 0.4])
    assert scheduler.last_epoch == 2


def test_tensors_and_averages_are_those_of_the_inner_optimizer():
    optimizer = Prepared(sgd())
    scheduler = ControlledLR(optimizer, Witness(0.1))
    optimizer.step()
    assert scheduler.state_dict()["state"]["direction"][0].item() == 1.0
    optimizer = Prepared(sgd())
    scheduler = ControlledLR(optimizer, Restart())
    optimizer.step()
    assert optimizer.param_groups[0]["params"][0].item() == pytest.approx(0.5 * (1 - 0.1) + 1)


def test_a_scheduler_on_a_wrapper_is_saved_and_loaded():
    def run(optimizer, scheduler, losses):
        taken = []
        for loss in losses:
            scheduler.observe(loss)
            optimizer.step()
            taken += rates(optimizer)
        return taken

    first = Prepared(sgd())
    before = ControlledLR(first, Tenth())
    run(first, before, [1.0, 2.0])
    second = Prepared(sgd())
    after = ControlledLR(second, Tenth())
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    assert run(second, after, [3.0]) == run(first, before, [3.0])


def test_a_wrapper_around_nothing_that_has_hooks_is_refused():
    message = "Prepared has no step hooks.*build ControlledLR on the optimizer that it wraps"
    for inner in (None, object()):
        with pytest.raises(TypeError, match=message):
            ControlledLR(Prepared(inner), Tenth())
    with pytest.raises(TypeError, match="LBFGS evaluates its closure many times"):
        ControlledLR(Prepared(torch.optim.LBFGS([torch.nn.Parameter(torch.ones(1))])), Tenth())


# A checkpoint by its name


def test_a_checkpoint_is_loaded_by_its_name_or_folder():
    expected, _ = build(load_pretrained("meta-lr-digits"), total_steps=9)
    for name in ("meta-lr-digits", checkpoint.bundled() / "meta-lr-digits"):
        scheduler, _ = build(name, total_steps=9)
        assert repr(scheduler.controller) == repr(expected.controller)


def test_an_unknown_name_comes_with_a_similar_one():
    with pytest.raises(
        CheckpointError, match=r"no checkpoint 'meta-lr-digit'.*; did you mean 'met"
    ) as e:
        build("meta-lr-digit")
    assert len(str(e.value)) <= 300
    with pytest.raises(CheckpointError) as e:
        load_pretrained("something else")
    assert "did you mean" not in str(e.value)


@pytest.mark.parametrize(
    "first", ["meta-lr-digits", Path("meta-lr-digits"), Constant(0.1)], ids=str
)
def test_arguments_in_the_wrong_order_are_refused(first):
    with pytest.raises(TypeError, match=r"^the first argument is .*which is no optimizer; call Co"):
        ControlledLR(first, sgd())


@pytest.mark.parametrize(
    ("controller", "came"),
    [
        (Constant, "the class Constant"),
        (None, "None"),
        (0.1, "0.1"),
        (torch.nn.Linear(1, 1), r"Linear\(.*\)"),
        (lambda step: 0.1, "of type function"),
        (sgd(), "of type SGD"),
    ],
    ids=["class", "None", "number", "module", "function", "optimizer"],
)
def test_what_is_no_controller_is_refused(controller, came):
    with pytest.raises(TypeError, match=rf"^the controller is ({came}); pass a policy such") as e:
        ControlledLR(sgd(), controller)
    assert len(str(e.value)) <= 300
    assert "\n" not in str(e.value)


def test_a_scheduler_of_torch_is_no_optimizer():
    scheduler = torch.optim.lr_scheduler.ExponentialLR(sgd(), 0.5)
    with pytest.raises(TypeError, match=r"^ExponentialLR is not an Optimizer; pass a torch.optim"):
        ControlledLR(scheduler, Tenth())


@pytest.mark.parametrize("peak", [1e31, 10**400, 0, -1.0, float("nan"), float("inf")])
def test_an_impossible_peak_is_refused_in_plain_words(peak):
    with pytest.raises(CheckpointError, match=r"^peak is .*; pass a learning rate above 0") as e:
        load_pretrained("meta-lr-digits", peak=peak)
    assert len(str(e.value)) <= 120


@pytest.mark.parametrize("peak", ["0.1", True, [0.1]])
def test_a_peak_that_is_no_number_is_refused(peak):
    with pytest.raises(
        CheckpointError, match=r"^peak is of type .*; pass a learning rate, such as"
    ):
        load_pretrained("meta-lr-digits", peak=peak)


def test_a_huge_peak_is_used_without_an_error():
    scheduler, _ = build(load_pretrained("meta-lr-digits", peak=1e30), total_steps=3)
    scheduler.observe(1.0)
    scheduler.optimizer.step()
    assert 0.0 < rates(scheduler.optimizer)[0] < 1e32


@pytest.mark.parametrize("name", [None, 3, sgd()], ids=["None", "number", "optimizer"])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(CheckpointError, match=r"^the name of the checkpoint is of type"):
        meta_lr.load_pretrained(name)
