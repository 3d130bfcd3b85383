"""The angle between moves: against plain formulas, near its ends, and on a noisy quadratic."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from meta_lr import vectors
from meta_lr.optim.angles import buffers, follow, has_angle, turn
from tests.reference import autodrop as slow


def walk(points, k):
    """Return all angles of a path."""
    trail, angles = (), []
    for steps, point in enumerate(points, 1):
        trail, angle = follow(trail, point, steps, k)
        assert (angle is not None) == has_angle(steps, k)
        angles += [] if angle is None else [float(angle)]
    return angles


def pieces(vector):
    return [vector[:3], vector[3:9].view(2, 3), vector[9:]]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_angles_are_those_between_moves_of_the_blocks_means(k):
    points = torch.randn(41, 12, dtype=torch.float64).cumsum(0)
    means = [points[i : i + k].mean(0) for i in range(0, 41 - k + 1, k)]
    moves = [b - a for a, b in pairwise(means)]
    expected = [slow.degrees(a, b) for a, b in pairwise(moves)]
    assert walk(map(pieces, points), k) == pytest.approx(expected, rel=1e-12)
    assert len(expected) == 41 // k - 2


@pytest.mark.parametrize("radians", [1e-6, 1e-3, 2.0, math.pi - 1e-3, math.pi - 1e-6])
def test_it_is_accurate_where_the_arc_cosine_is_not(radians):
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    b = 3 * torch.tensor([math.cos(radians), math.sin(radians)], dtype=torch.float64)
    (angle,) = walk([[torch.zeros_like(a)], [a], [a + b]], 1)
    assert angle == pytest.approx(math.degrees(radians), rel=1e-8)
    assert angle == pytest.approx(math.degrees(vectors.angle([a], [b])), rel=1e-8)


def test_single_precision_does_for_large_vectors():
    a, b = torch.randn(2, 300_000, dtype=torch.float64)
    start = torch.randn(300_000, dtype=torch.float64)
    points = [start, start + 1e-2 * a, start + 1e-2 * (a + b)]
    (angle,) = walk([[p.float()] for p in points], 1)
    assert angle == pytest.approx(slow.degrees(a, b), abs=1e-3)


def test_without_a_move_the_angle_is_a_right_one():
    zero, one = [torch.zeros(3)], [torch.ones(3)]
    assert walk([zero, one, one, one, zero], 1) == [90.0, 90.0, 90.0]


def test_parameters_in_half_precision_are_followed_in_single():
    point = [torch.ones(3, dtype=torch.bfloat16)]
    trail, _ = follow((), point, 1, 4)
    assert trail[0][0].dtype == torch.float32
    for steps in range(2, 5):
        point = [p + 0.0078125 * steps for p in point]
        trail, _ = follow(trail, point, steps, 4)
    last, way = buffers(point, 2)
    assert turn(point, last, way).dtype == torch.float64


def test_a_point_that_is_no_number_is_forgotten():
    points = list(torch.randn(24, 12).cumsum(0))
    clean = walk(map(pieces, points), 4)
    points[5] = torch.full((12,), math.nan)
    hurt = walk(map(pieces, points), 4)
    assert [math.isnan(angle) for angle in hurt] == [True, True, False, False]
    assert hurt[2:] == clean[2:]


def test_a_trail_is_three_copies_and_reads_without_keeping():
    points = torch.randn(9, 12).cumsum(0)
    trail, places = (), set()
    for steps, point in enumerate(points, 1):
        before = point.clone()
        trail, _ = follow(trail, pieces(point), steps, 2)
        assert torch.equal(point, before)
        places |= {tensor.data_ptr() for vector in trail for tensor in vector}
    assert len(places) == 3 * 3, "buffers are reused"


CURVATURE = torch.arange(1, 201, dtype=torch.float64) / 10


def predicted(rate):
    """The arc cosine of the stationary mean cosine of two steps, in degrees."""
    weights = CURVATURE**2 / (2 - rate * CURVATURE)
    return math.degrees(math.acos(-rate / 2 * float((CURVATURE * weights).sum() / weights.sum())))


@pytest.mark.parametrize(
    ("rate", "degrees"),
    [
        (0.06, 118.2),
        (0.03, 103.3),
        (0.01, 94.3),
        (0.001, 90.4),
    ],
)
def test_angles_of_stationary_descent_on_a_noisy_quadratic(rate, degrees):
    assert predicted(rate) == pytest.approx(degrees, abs=0.05)
    noise = torch.Generator().manual_seed(0)
    deviation = torch.sqrt(rate * CURVATURE / (2 - rate * CURVATURE))  # of the stationary weights
    x = deviation * torch.randn(200, generator=noise, dtype=torch.float64)
    points = []
    for centre in torch.randn(3000, 200, generator=noise, dtype=torch.float64):
        x = x - rate * CURVATURE * (x - centre)
        points.append([x])
    angles = walk(points, 1)
    assert sum(angles) / len(angles) == pytest.approx(degrees, abs=0.2)
