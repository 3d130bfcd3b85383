"""LABPAL with SGD, as its paper says it: a parabola through the mean loss of many batches.

`loss(model, batch)`, and `batch(step, draw)`, which for draw None is that of the training step.
"""

import copy

import numpy as np
import torch

NEAR, FAR = 1.77e-4, 0.01


def mean_loss(model, params, direction, distance, loss, batches):
    """Return the mean loss at a distance along the negative unit direction, on a copy."""
    moved = copy.deepcopy(model)
    norm = float(torch.cat([d.reshape(-1) for d in direction]).norm())
    with torch.no_grad():
        for p, d in zip(moved.parameters(), direction, strict=True):
            p -= distance * d / norm
        return np.mean([float(loss(moved, batch)) for batch in batches]), norm


def run(model, loss, batch, *, steps, momentum, num_batches, reuse, skipped, average, kappa, top):
    """Train, and return the rate of each step."""
    params = list(model.parameters())
    direction = [torch.zeros_like(p) for p in params]
    lr, history, rates, since = None, [], [], None
    for step in range(steps):
        grads = torch.autograd.grad(loss(model, batch(step, None)), params)
        direction = [momentum * d + g for d, g in zip(direction, grads, strict=True)]
        if lr is None or step == skipped + 1 or step - since >= reuse:
            batches = [batch(step, None)] + [batch(step, draw) for draw in range(num_batches - 1)]
            points = [0.0, NEAR, FAR]
            measured = [
                mean_loss(model, params, direction, point, loss, batches) for point in points
            ]
            a, b, _ = np.polyfit(points, [value for value, _ in measured], 2)
            since = step
            if a > 0 > b:
                norm = measured[0][1]
                new = kappa * min(-b / (2 * a), top) / norm
                if step > skipped:
                    history.append(new)
                    lr = np.mean(history[-average:])
                else:
                    lr = new
        rate = 0.0 if lr is None else float(lr)
        with torch.no_grad():
            for p, d in zip(params, direction, strict=True):
                p -= rate * d
        rates.append(rate)
    return rates
