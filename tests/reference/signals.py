"""A slow twin of the signals and of their features, from whole histories of weights and gradients.

It imports nothing of the package. A vector is a list of numbers, a history a list of vectors.
"""

import math
from itertools import pairwise


def norm(vector):
    return math.sqrt(sum(x * x for x in vector))


def apart(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def cosine(a, b):
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / (norm(a) * norm(b)) if norm(a) * norm(b) else 0.0


def from_zero(values, steps):
    """Each value moves the mean, which begins at 0, by 1 / (steps + 1) of the way."""
    mean = 0.0
    for value in values:
        mean += (value - mean) / (steps + 1)
    return mean


def smoothed(values, steps):
    weights = [(steps / (steps + 1)) ** age for age in reversed(range(len(values)))]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def feature(name, weights, grads, total_steps):
    """The feature at the last step of the histories, which begin with the run."""
    moves = [apart(a, b) for a, b in pairwise(weights)]
    if name.startswith("alignment"):
        window = name.removeprefix("alignment_")
        steps = max(10.0, total_steps / 20) if window == "share" else int(window)
        cosines = [cosine(g, move) for g, move in zip(grads[1:], moves, strict=True)]
        return from_zero([0.0, *cosines], steps)
    if name == "gradient_trend":
        logs = [math.log(norm(g)) for g in grads]
        return smoothed(logs, 10) - logs[0]
    if name == "relative_update":
        moved = [norm(move) / norm(w) for move, w in zip(moves, weights[1:], strict=True)]
        return math.log10(moved[-1] / 0.001) if moved else 0.0
    assert name == "travel"
    travelled = norm(apart(weights[-1], weights[0])) / norm(weights[-1])
    return math.log10(min(max(travelled, 0.001), 1000.0) / 0.1)
