"""Experiments leave no trace, and see exactly what the run sees."""

import copy
import time
from functools import partial

import pytest
import torch

from meta_lr.methods.wrappers import Composite
from meta_lr.protocol import Need, StepView
from meta_lr.records.reader import read_rows
from meta_lr.training.loop import train
from meta_lr.training.outcome import StoppedError
from meta_lr.training.sandbox import InterruptedExperimentError, Sandbox
from tests.short_runs import stop_when
from tests.toys import Fixed, HeavyProber, LossRate, Toy

OPTIMIZERS = [
    partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3),
    partial(torch.optim.Adam, lr=0.1),
    partial(torch.optim.NAdam, lr=0.1),
]


def weights_of(outcome):
    return list(outcome.model.state_dict().values())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_heavy_probing_leaves_the_run_bit_identical(optimizer, clip):
    plain = train(Toy(), optimizer, Fixed(), total_steps=12, clip=clip)
    probed = train(Toy(), optimizer, HeavyProber(), total_steps=12, clip=clip)
    for a, b in zip(weights_of(plain), weights_of(probed), strict=True):
        assert torch.equal(a, b)
    assert probed.val == plain.val and probed.test == plain.test
    # per step: a forward, two of forward and backward, 3 trial steps, 2 forwards: all on batches
    # of the same size
    assert probed.search_cost == pytest.approx(12 * (1 / 3 + 2 + 3 + 2 / 3))
    assert plain.search_cost == 0.0


def test_the_seconds_of_experiments_are_told_apart_and_go_on_after_a_stop(tmp_path):
    class Slow(HeavyProber):
        def __call__(self, view, state):
            time.sleep(0.02)  # its own thinking counts as well
            return super().__call__(view, state)

    plain = train(Toy(), OPTIMIZERS[0], Fixed(), total_steps=6)
    assert plain.search_seconds == 0.0 < plain.seconds
    with pytest.raises(StoppedError):
        train(Toy(), OPTIMIZERS[0], Slow(), total_steps=6, folder=tmp_path, stop=stop_when(4))
    before = read_rows(tmp_path)[-1]["search_seconds"]
    outcome = train(Toy(), OPTIMIZERS[0], Slow(), total_steps=6, folder=tmp_path)
    assert before >= 4 * 0.02 and before + 2 * 0.02 <= outcome.search_seconds < outcome.seconds


def test_the_loss_at_the_present_weights_is_the_run_s_loss_with_dropout_on():
    seen = []

    class Checker(HeavyProber):
        def __call__(self, view, state):
            seen.append(torch.equal(view.sandbox.loss(view.params), view.loss))
            seen.append(not torch.equal(view.sandbox.loss(view.params, 0), view.loss))
            return 0.05, state

    train(Toy(dropout=0.5), OPTIMIZERS[0], Checker(), total_steps=10)
    assert len(seen) == 20 and all(seen)


def live(dropout=0.0, **options):
    task = Toy(dropout=dropout)
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return task, model, optimizer, Sandbox(model, optimizer, task.loss, task.batch, **options)


def test_trials_start_alike_and_draw_the_same_batches():
    _, _, _, sandbox = live(seed=3)
    losses = []
    for _ in range(2):
        with sandbox.trial() as trial:
            losses.append([float(trial.step(0.1)) for _ in range(4)])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 4


def test_a_trial_is_a_training_run_of_its_own():
    task, model, optimizer, sandbox = live(seed=3)
    sandbox.at(5)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    with sandbox.trial() as trial:
        trial.step(0.02)
        trial.step(0.3)
    for draw, rate in ((0, 0.02), (1, 0.3)):
        twin_optimizer.param_groups[0]["lr"] = rate
        twin_optimizer.zero_grad()
        task.loss(twin, task.batch("train", 5, draw)).backward()
        twin_optimizer.step()
    for a, b in zip(trial.model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_trial_may_begin_at_a_later_batch():
    _, _, _, sandbox = live(seed=3)
    losses = []
    for first_draw in (0, 2):
        with sandbox.trial(first_draw) as trial:
            losses.append([float(trial.step(0.0)) for _ in range(4)])
    assert losses[0][2:] == losses[1][:2] and losses[0] != losses[1]


def test_validation_is_on_the_first_batches_or_on_random_ones_of_the_step():
    task, model, _, sandbox = live()
    sandbox.at(5)
    drawn = [task.loss(model.eval(), task.batch("val", 5, draw)).item() for draw in range(2)]
    first = [task.loss(model.eval(), task.batch("val", index)).item() for index in range(2)]
    model.train()
    with sandbox.trial() as trial:
        assert trial.val_loss(2) == pytest.approx(sum(first) / 2)
        assert trial.val_loss(2, drawn=True) == pytest.approx(sum(drawn) / 2)
        assert trial.model.training
    assert sandbox.cost == pytest.approx(4 / 3)


@pytest.mark.parametrize("scale", [None, 0.5])
def test_the_rate_is_that_of_the_last_step_for_the_controller(scale):
    _, _, optimizer, sandbox = live()
    if scale is not None:
        optimizer.param_groups[0]["lr_scale"] = scale
    assert sandbox.rate == 0.1 / (scale or 1)
    optimizer.param_groups[0]["lr"] = torch.tensor(0.25)
    assert sandbox.rate == 0.25 / (scale or 1)


def test_a_stop_ends_an_experiment_and_random_numbers_are_restored():
    _, _, _, sandbox = live(stop=lambda: True)
    before = torch.get_rng_state()
    with pytest.raises(InterruptedExperimentError), sandbox.trial() as trial:
        trial.step(0.1)
    assert torch.equal(before, torch.get_rng_state())


def test_cost_is_scaled_by_examples():
    task, model, optimizer, _ = live()

    def batch(split, index, draw):
        x, y = task.batch(split, index, draw)
        return (x[:4], y[:4]) if split == "meta" else (x, y)

    sandbox = Sandbox(model, optimizer, task.loss, batch)
    sandbox.meta_loss(list(model.parameters()))
    assert sandbox.cost == pytest.approx(4 / 16)


def test_a_parameter_outside_the_model_is_refused():
    task, model, _, _ = live()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match="not in the model"):
        Sandbox(model, optimizer, task.loss, task.batch)


def test_a_view_shows_only_what_is_declared():
    view = StepView(Fixed(), 3, loss=torch.tensor(1.0), params=[], total_steps=9)
    assert view.step == 3
    for name in ("loss", "params", "grads", "direction", "sandbox", "total_steps"):
        with pytest.raises(RuntimeError, match=f"Fixed reads {name} but declares NOTHING"):
            getattr(view, name)
    assert HeavyProber().needs & Need.TRIALS


def test_a_part_of_a_composite_reads_only_what_it_declares_itself():
    class Curious(Fixed):
        def __call__(self, view, state):
            return view.loss, state

    both = Composite([5], [LossRate(), Curious()])
    state = both.init()
    for step in (0, 4):
        rate, state = both(StepView(both, step, loss=torch.tensor(2.0)), state)
        assert float(rate) == pytest.approx(0.2)
    with pytest.raises(RuntimeError, match="Curious reads loss but declares NOTHING"):
        both(StepView(both, 5, loss=torch.tensor(2.0)), state)


def test_a_trial_works_under_a_grad_scaler_in_the_middle_of_its_step():
    task, model, optimizer, _ = live()
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    sandbox = Sandbox(model, optimizer, task.loss, task.batch, scaler=scaler, clip=1.0)
    scaler.scale(task.loss(model, task.batch("train", 0))).backward()
    scaler.unscale_(optimizer)
    with sandbox.trial() as trial:
        losses = [float(trial.step(0.1)) for _ in range(3)]
    assert all(loss < 10.0 for loss in losses)
    assert scaler.get_scale() == 64.0
    scaler.step(optimizer)
    scaler.update()
