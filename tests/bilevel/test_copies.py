"""Copies side by side: one flat tensor per parameter group, and arithmetic on arrays."""

from dataclasses import replace

import pytest
import torch

import meta_lr
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.layout import layout
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.bilevel.schedules import Seen
from meta_lr.bilevel.varied import VariedProblems
from meta_lr.methods.features.arithmetic import ARRAYS, TENSORS, columns
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.optim.signals import chosen, flat_copies, pieces_of, squares
from meta_lr.seeds import generator
from tests.changed import changed, frozen_and_zero, frozen_body, zero, zero_head

COUNT = 3


def stacked(size=0.5, seed=0):
    draw = generator(seed, "phi")
    return tuple(size * torch.randn(COUNT, *w.shape, generator=draw) for w in NETWORK.init(0))


def seen(draw, step, total_steps=40):
    """Return a step of copies: one of them diverges, one stands still."""

    def numbers():
        return torch.randn(COUNT, 7, generator=draw, dtype=torch.float64)

    losses = torch.rand(COUNT, generator=draw, dtype=torch.float64) + 2 / (step + 1)
    params = numbers() * torch.tensor([[1.0], [1.0], [0.0]], dtype=torch.float64)
    if step > 20:
        losses[0], params[0] = float("nan"), float("inf")
    return Seen(losses, params, numbers(), numbers, step, total_steps, pieces_of([(2, 2), (3, 1)]))


def test_arrays_give_the_numbers_of_tensors():
    """Features, network and integrator, over a run with a diverged copy in it."""
    schedule, phi, states = SelfTuning(NETWORK.init(0)), stacked(), []
    for weights in (phi, tuple(w.requires_grad_() for w in stacked())):
        draw, found = generator(1, "steps"), []
        state = schedule.init()
        state = state._replace(memory=tuple(m.expand(COUNT, *m.shape) for m in state.memory))
        for step in range(40):
            lr, state = schedule.side_by_side(weights, seen(draw, step), state)
            found.append((lr, state.scale, *state.memory))
        states.append(found)
    assert states[1][-1][0].requires_grad and not states[0][-1][0].requires_grad
    for mine, theirs in zip(*states, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b.detach(), rtol=1e-12, atol=1e-12, equal_nan=True)


def test_a_wanted_gradient_needs_tensors():
    plain, wanted = torch.zeros(2), torch.zeros(2, requires_grad=True)
    assert columns(plain).ops is ARRAYS and columns(plain, wanted).ops is TENSORS
    with torch.no_grad():
        assert columns(wanted).ops is ARRAYS


@pytest.mark.parametrize("sign", [-1.0, 0.0, 1.0])
def test_a_choice_is_by_the_sign(sign):
    found = [ops.pick(torch.tensor([sign]), 1.0, 2.0) for ops in (TENSORS, ARRAYS)]
    assert found[0].item() == found[1].item() == (1.0 if sign > 0 else 2.0)


def test_flat_tensors_come_apart_again():
    shapes = [(2, 3), (3,), (4,), (5, 1), (2,)]
    draw = generator(0, "tensors")
    tensors = [torch.randn(COUNT, *shape, generator=draw) for shape in shapes]
    one = [t[0] for t in tensors]
    way = layout(one, [[one[2], one[0], one[1]], one[3:]])
    packed = way.flat(tensors)
    assert [t.shape for t in packed] == [(COUNT, 13), (COUNT, 7)]
    assert all(map(torch.equal, way.apart(packed), tensors))
    seen = way.seen(packed)
    assert torch.equal(seen, flat_copies([tensors[i] for i in chosen(shapes)]))
    norms = [tensors[i].square().flatten(1).sum(1) for i in chosen(shapes)]
    torch.testing.assert_close(squares(seen, way.pieces.lengths), torch.stack(norms, 1))
    assert way.pieces == pieces_of([shapes[i] for i in chosen(shapes)])


def test_pieces_follow_the_groups():
    """The tensors of the second group may come before those of the first one."""
    draw, shapes = generator(0, "tensors"), [(2, 3), (4,), (5, 1)]
    tensors = [torch.randn(COUNT, *shape, generator=draw) for shape in shapes]
    one = [t[0] for t in tensors]
    way = layout(one, [[one[1], one[2]], [one[0]]])
    assert torch.equal(way.seen(way.flat(tensors)), flat_copies([tensors[2], tensors[0]]))
    assert way.pieces == pieces_of([(5, 1), (2, 3)])


def in_two_groups(problem):
    """Return the problem with its biases in a group of their own, at a third of the rate."""

    def make(params):
        groups = [
            {"params": [p for p in params if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in params if p.ndim < 2], "lr_scale": 1 / 3, "momentum": 0.0},
        ]
        return torch.optim.SGD(groups, lr=1.0, momentum=0.9)

    return problem._replace(make_optimizer=make)


class Half:
    """Half a learning rate for all copies."""

    def init(self):
        return SelfTuning(NETWORK.init(0)).init()

    def side_by_side(self, weights, seen, state):
        return torch.full_like(seen.losses, 0.5), state


def test_groups_keep_their_own_options_and_learning_rates():
    problems = DigitsProblems(depths=(1, 1), lengths=(6, 6), batch_sizes=(16,))
    task = problems(2).task
    model = task.model()
    problem = in_two_groups(problems(2))
    optimizer = problem.make_optimizer(list(model.parameters()))
    for step in range(6):
        optimizer.zero_grad()
        task.loss(model, task.batch("train", step)).backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * group.get("lr_scale", 1.0)
        optimizer.step()
    copies = Copies(problem, Half(), 2)
    end = copies.run(copies.run(copies.start(), (), 0, 2), (), 2, 4)
    for mine, plain in zip(end.params, model.parameters(), strict=True):
        torch.testing.assert_close(mine[1], plain.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd_momentum", "adam", "rmsprop"])
def test_a_run_in_windows_is_the_run_at_once(optimizer):
    kind = VariedProblems(networks=("conv",), lengths=(6, 6), optimizers=(optimizer,))
    copies = Copies(replace(kind, batch_sizes=(8,))(1), SelfTuning(NETWORK.init(0)), COUNT)
    phi = stacked()
    at_once = copies.run(copies.start(), phi, 0, 6)
    windows = copies.run(copies.run(copies.start(), phi, 0, 4), phi, 4, 2)
    for mine, theirs in zip(at_once.params, windows.params, strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(at_once.slots, windows.slots, strict=True):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("optimizer", ["sgd_momentum", "adam"])
@pytest.mark.parametrize("change", [zero, zero_head, frozen_body, frozen_and_zero])
def test_copies_with_zero_and_frozen_tensors_are_trained_as_a_loop_trains_them(
    change, optimizer, double
):
    problem = DigitsProblems(lengths=(20, 20), label_noise=(0.0, 0.0), optimizers=(optimizer,))(3)
    problem = changed(problem, change)
    phi = stacked(0.3)
    own = SelfTuning(tuple(w[1] for w in phi))
    copies, model = Copies(problem, own, COUNT), problem.task.model()
    start = copies.start()
    end = copies.run(start, phi, 0, 20)
    assert any(not torch.equal(a, b) for a, b in zip(start.params, end.params, strict=True))
    optimizer = problem.make_optimizer(list(model.parameters()))
    scheduler = meta_lr.ControlledLR(optimizer, own, total_steps=20)
    for step in range(20):
        loss = problem.task.loss(model, problem.task.batch("train", step))
        optimizer.zero_grad()
        loss.backward()
        scheduler.observe(loss)
        optimizer.step()
    state = scheduler._state
    assert torch.equal(end.state.least[1], state.least) and end.state.least.dtype == torch.float64
    torch.testing.assert_close(end.state.scale[1], torch.tensor(state.scale), rtol=1e-8, atol=1e-10)
    for theirs, p in zip(end.params, model.parameters(), strict=True):
        torch.testing.assert_close(theirs[1], p.detach(), rtol=1e-8, atol=1e-10)
