"""The quadratic whose gradient, Hessian and minimum are known."""

from __future__ import annotations

import pytest
import torch

from meta_lr.tasks import SPLITS, Quadratic


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_gradient_and_hessian_are_the_ones_it_names():
    task = Quadratic(dim=6, condition=30, noise=0.5, batch_size=4)
    model, batch = task.model(), task.batch("train", 3)
    (gradient,) = torch.autograd.grad(task.loss(model, batch), [model.weight])
    expected = task.hessian @ (model.weight - task.optimum) + batch[0].mean(dim=0)
    torch.testing.assert_close(gradient, expected)

    def loss(weight):
        return task.loss(lambda noise: weight.expand(len(noise), -1), batch)

    hessian = torch.autograd.functional.hessian(loss, model.weight.detach())
    torch.testing.assert_close(hessian, task.hessian)


def test_eigenvalues_fall_from_one_to_one_over_the_condition():
    eigenvalues = torch.linalg.eigvalsh(Quadratic(dim=5, condition=81).hessian)
    expected = torch.tensor([1 / 81, 1 / 27, 1 / 9, 1 / 3, 1])
    torch.testing.assert_close(eigenvalues, expected)
    torch.testing.assert_close(Quadratic(dim=1).hessian, torch.ones(1, 1))


def test_the_loss_without_noise_is_zero_at_the_optimum_and_known_elsewhere():
    task = Quadratic(dim=4)
    model = task.model()
    error = model.weight.detach() - task.optimum
    energy = error @ task.hessian @ error / 2
    for split in SPLITS:
        torch.testing.assert_close(task.metrics(model, task.batch(split, 0))["loss"], energy)
    for split in ("val", "test"):
        torch.testing.assert_close(task.loss(model, task.batch(split, 0)), energy)
    with torch.no_grad():
        model.weight.copy_(task.optimum)
    assert task.metrics(model, task.batch("train", 0))["loss"] == 0


@pytest.mark.parametrize("rate", [0.5, 1.9, 2 / (1 + 1 / 10)])
def test_gradient_descent_shrinks_the_error_as_theory_says(rate):
    task = Quadratic(dim=3, condition=10, noise=0)
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    steps = 30
    matrix = torch.eye(3) - rate * task.hessian
    start = model.weight.detach() - task.optimum
    expected = torch.linalg.matrix_power(matrix, steps) @ start
    for step in range(steps):
        optimizer.zero_grad()
        task.loss(model, task.batch("train", step)).backward()
        optimizer.step()
    torch.testing.assert_close(model.weight.detach() - task.optimum, expected)


def test_noise_has_mean_zero_and_the_given_deviation():
    task = Quadratic(dim=50, noise=0.3, batch_size=20)
    noise = torch.cat([task.batch("train", index)[0] for index in range(50)])
    assert abs(noise.mean()) < 4 * 0.3 / noise.numel() ** 0.5
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)


def test_noise_is_a_pure_function_of_seed_split_index_and_draw():
    calls = [("train", 1), ("train", 2), ("meta", 1), ("train", 1, 0), ("train", 1, 1)]
    drawn = {
        (seed, call): tuple(Quadratic(seed=seed).batch(*call)[0].flatten().tolist())
        for seed in (0, 1)
        for call in calls
    }
    assert len(set(drawn.values())) == len(drawn)
    task = Quadratic(seed=1)
    for call in calls[::-1]:
        assert tuple(task.batch(*call)[0].flatten().tolist()) == drawn[1, call]


def test_single_precision_sees_the_same_problem():
    exact = Quadratic(seed=4)
    expected = exact.loss(exact.model(), exact.batch("train", 5))
    torch.set_default_dtype(torch.float32)
    task = Quadratic(seed=4)
    loss = task.loss(task.model(), task.batch("train", 5))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


def test_model_is_a_function_of_the_seed_and_the_problem_is_not():
    state = torch.get_rng_state()
    first, again, other = (Quadratic(seed=seed).model().weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(Quadratic(seed=0).hessian, Quadratic(seed=1).hessian)
    assert torch.equal(Quadratic(seed=0).optimum, Quadratic(seed=1).optimum)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dim": 0}, "dim=0; it must be at least 1"),
        ({"condition": 0.5}, "condition=0.5"),
        ({"condition": float("nan")}, "condition=nan"),
        ({"noise": -1.0}, "noise=-1.0; it must be at least 0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Quadratic(**arguments)


@pytest.mark.parametrize("call", [("val", 1), ("train", -1), ("train", 0, -1), ("other", 0)])
def test_a_batch_that_does_not_exist_is_refused(call):
    with pytest.raises(ValueError, match="split"):
        Quadratic().batch(*call)
