"""A slow twin of the signals and of their features, from whole histories of weights and gradients.

It imports nothing of the package. A tensor is a nested list of numbers, a step a list of tensors, a
history a list of steps.
"""

import math
from itertools import pairwise


def flat(tensor):
    return [x for part in tensor for x in flat(part)] if isinstance(tensor, list) else [tensor]


def norm(vector):
    return math.sqrt(sum(x * x for x in vector))


def apart(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def inner(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def mean_square(values):
    return math.sqrt(sum(value * value for value in values) / len(values))


def least(tensor):
    """What a tensor counts as at least: torch's own initial norm, if it begins at zero."""
    return 0.0 if norm(flat(tensor)) else math.sqrt(len(tensor) / 3)


def units(weights):
    """The unit of each tensor at each step: its norm."""
    smallest = [least(tensor) for tensor in weights[0]]
    return [
        [max(norm(flat(w)), low) for w, low in zip(step, smallest, strict=True)] for step in weights
    ]


def size(moves, unit):
    """The size of a change of all tensors, each in its own unit."""
    return mean_square([norm(move) / u for move, u in zip(moves, unit, strict=True)])


def gradient(grads, unit):
    """The size of the gradient in the coordinates w / unit."""
    return norm([u * norm(g) for g, u in zip(grads, unit, strict=True)])


def cosine(grads, moves, unit):
    """The cosine of the gradient and the last step down in the coordinates w / unit."""
    product = sum(inner(g, move) for g, move in zip(grads, moves, strict=True))
    length = norm([norm(move) / u for move, u in zip(moves, unit, strict=True)])
    both = gradient(grads, unit) * length
    return product / both if both else 0.0


def average(tensors, steps):
    """The mean of a tensor's history, which begins at its first values."""
    mean = tensors[0]
    for tensor in tensors:
        mean = [m + (x - m) / (steps + 1) for m, x in zip(mean, tensor, strict=True)]
    return mean


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
    unit, window = units(weights), max(10.0, total_steps / 20)
    weights, grads = ([[flat(t) for t in step] for step in part] for part in (weights, grads))
    moves = [[apart(a, b) for a, b in zip(*pair, strict=True)] for pair in pairwise(weights)]
    if name.startswith("alignment"):
        asked = name.removeprefix("alignment_")
        steps = window if asked == "share" else int(asked)
        seen = zip(grads[1:], moves, unit[1:], strict=True)
        return from_zero([0.0, *(cosine(*step) for step in seen)], steps)
    if name == "gradient_trend":
        logs = [math.log(gradient(g, u)) for g, u in zip(grads, unit, strict=True)]
        return smoothed(logs, 10) - logs[0]
    if name == "relative_update":
        return math.log10(size(moves[-1], unit[-1]) / 0.001) if moves else 0.0
    assert name == "spread"
    means = [average(tensor, window) for tensor in zip(*weights, strict=True)]
    spread = size(list(map(apart, weights[-1], means)), unit[-1])
    return math.log10(min(max(spread, 0.001), 1000.0) / 0.1)
