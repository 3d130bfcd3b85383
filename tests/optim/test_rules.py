"""The rules against torch's own optimizers, bit for bit."""

import copy

import pytest
import torch

from meta_lr import vectors
from meta_lr.optim import rules

CASES = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 1e-2}),
    (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"weight_decay": 1e-2, "betas": (0.8, 0.95), "eps": 1e-2}),
    (torch.optim.AdamW, {"weight_decay": 0.1}),
    (torch.optim.RMSprop, {}),
    (torch.optim.RMSprop, {"momentum": 0.9, "weight_decay": 1e-2}),
    (torch.optim.Adagrad, {"lr_decay": 1e-2, "initial_accumulator_value": 0.1}),
    (torch.optim.Adagrad, {"weight_decay": 1e-2}),
    (torch.optim.Adadelta, {"weight_decay": 1e-2, "rho": 0.8}),
]


def build(kind, options, dtype):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(7, 5, dtype=dtype)) for _ in range(3)]
    return params, kind(params, lr=0.03, **options)


def set_grads(params, step):
    generator = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = torch.randn(p.shape, dtype=p.dtype, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_rule_equals_torch_bit_for_bit_over_twenty_steps(kind, options, dtype):
    params, optimizer = build(kind, options, dtype)
    ours, states = [p.detach().clone() for p in params], [{} for _ in params]
    rule = rules.RULES[kind]
    for step in range(20):
        set_grads(params, step)
        rate = 0.03 / (1 + step)
        optimizer.param_groups[0]["lr"] = rate
        for i, p in enumerate(params):
            d, states[i] = rule(ours[i], p.grad, states[i], optimizer.param_groups[0])
            ours[i] = d.apply(ours[i], rate)
        optimizer.step()
        for mine, theirs in zip(ours, params, strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_direction_reads_a_live_optimizer_and_changes_nothing(kind, options):
    params, optimizer = build(kind, options, torch.float64)
    for step in range(4):
        set_grads(params, step)
        before = copy.deepcopy(optimizer.state_dict())
        expected = vectors.axpy(-0.03, rules.direction(optimizer), [p.detach() for p in params])
        after = optimizer.state_dict()
        torch.testing.assert_close(after, before, rtol=0, atol=0)
        optimizer.step()
        for want, p in zip(expected, params, strict=True):
            torch.testing.assert_close(p.detach(), want, rtol=0, atol=1e-15)


def test_direction_of_an_optimizer_without_a_rule_is_its_own_step():
    params, optimizer = build(torch.optim.NAdam, {}, torch.float64)
    for step in range(3):
        set_grads(params, step)
        before = [p.detach().clone() for p in params]
        d = rules.direction(optimizer)
        assert all(torch.equal(a, b) for a, b in zip(before, params, strict=True))
        optimizer.step()
        for b, p, v in zip(before, params, d, strict=True):
            torch.testing.assert_close(p.detach(), b - 0.03 * v, rtol=0, atol=1e-14)


def test_a_missing_gradient_has_direction_zero():
    params, optimizer = build(torch.optim.Adam, {}, torch.float64)
    set_grads(params, 0)
    params[1].grad = None
    assert float(rules.direction(optimizer)[1].abs().sum()) == 0.0


def test_a_tensor_rate_gives_the_same_step_and_a_gradient():
    params, optimizer = build(torch.optim.Adam, {}, torch.float64)
    set_grads(params, 0)
    p, rate = params[0].detach(), torch.tensor(0.03, dtype=torch.float64, requires_grad=True)
    d, _ = rules.adam(p, params[0].grad, {}, optimizer.param_groups[0])
    new = d.apply(p, rate)
    torch.testing.assert_close(new.detach(), d.apply(p, 0.03), rtol=0, atol=1e-15)
    (slope,) = torch.autograd.grad(new.sum(), rate)
    torch.testing.assert_close(slope, -d.value(p).sum())


def test_a_dead_unit_has_a_finite_second_derivative():
    g = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    group = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    d, _ = rules.adam(torch.zeros(2, dtype=torch.float64), g, {}, group)
    (slope,) = torch.autograd.grad(d.value(g.detach()).sum(), g)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        (torch.optim.SGD, {"maximize": True}, "maximize"),
        (torch.optim.Adam, {"amsgrad": True}, "amsgrad"),
        (torch.optim.Adam, {"decoupled_weight_decay": True}, "decoupled_weight_decay"),
        (torch.optim.RMSprop, {"centered": True}, "centered"),
        (torch.optim.NAdam, {}, "NAdam"),
    ],
)
def test_what_the_rules_do_not_describe_is_refused(kind, options, word):
    _, optimizer = build(kind, options, torch.float64)
    with pytest.raises(ValueError, match=word):
        rules.refuse_unsupported(optimizer)


def test_families():
    names = {
        (torch.optim.SGD, 0.0): "sgd",
        (torch.optim.SGD, 0.9): "sgd_momentum",
    }
    for (kind, momentum), name in names.items():
        assert rules.family(kind([torch.zeros(1)], lr=1.0, momentum=momentum)) == name
    assert rules.family(torch.optim.AdamW([torch.zeros(1)])) == "adamw"


def test_the_direction_of_a_copy_is_exact_at_a_tiny_rate_in_single_precision():
    params, optimizer = build(torch.optim.NAdam, {}, torch.float32)
    set_grads(params, 0)
    at_one = rules.direction(optimizer)
    optimizer.param_groups[0]["lr"] = 1e-7
    for a, b in zip(at_one, rules.direction(optimizer), strict=True):
        torch.testing.assert_close(a, b)
    exact, twin = build(torch.optim.NAdam, {}, torch.float64)
    for p, q in zip(exact, params, strict=True):
        p.grad = q.grad.double()
    for a, b in zip(at_one, rules.direction(twin), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)
