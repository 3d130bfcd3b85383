"""Lists of tensors against the same arithmetic on one flat vector."""

import math

import pytest
import torch

from meta_lr import vectors


def pair():
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), ()]
    return [
        [torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes] for _ in "ab"
    ]


def flat(v):
    return torch.cat([t.reshape(-1) for t in v])


def test_dot_norm_and_axpy_equal_the_flat_vector():
    a, b = pair()
    torch.testing.assert_close(vectors.dot(a, b), flat(a) @ flat(b))
    torch.testing.assert_close(vectors.norm(a), flat(a).norm())
    with torch.no_grad():
        torch.testing.assert_close(flat(vectors.axpy(0.3, a, b)), 0.3 * flat(a) + flat(b))
    torch.testing.assert_close(flat(vectors.axpy(torch.tensor(0.3), a, b)), 0.3 * flat(a) + flat(b))


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 45.0, 90.0, 179.999999, 180.0])
def test_angle_is_accurate_at_both_ends(degrees):
    turn = math.radians(degrees)
    a = [torch.tensor([1.0], dtype=torch.float64), torch.tensor([0.0], dtype=torch.float64)]
    b = [torch.tensor([x], dtype=torch.float64) for x in (3 * math.cos(turn), 3 * math.sin(turn))]
    assert vectors.angle(a, b) == pytest.approx(turn, rel=1e-9, abs=1e-15)


def test_the_angle_to_zero_is_refused():
    with pytest.raises(ValueError, match="zero"):
        vectors.angle([torch.zeros(2)], [torch.ones(2)])


def test_hvp_equals_the_hessian_times_the_vector():
    (a, v) = pair()
    params = [t.requires_grad_() for t in a]

    def f(x):
        return (x**4).sum() + (x[:3] * x[3:6]).prod()

    product = vectors.hvp(f(torch.cat([t.reshape(-1) for t in params])), params, v)
    hessian = torch.autograd.functional.hessian(f, flat(a).detach())
    torch.testing.assert_close(flat(product), hessian @ flat(v))
