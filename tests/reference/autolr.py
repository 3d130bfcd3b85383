"""AutoLR's reconstruction, the slow way: each probe is a real step of a copy of the optimizer.

`loss(model, step, draw)` is the loss of the training batch for draw None, else of a fresh one, with
the same dropout whenever it is asked again.
"""

import copy
import math

import numpy as np
import torch


def probe(model, optimizer, rate, step, draws, loss):
    """Return the mean loss after a real step at `rate`, on copies."""
    model, optimizer, grads = copy_of(model, optimizer)
    for p, grad in zip(model.parameters(), grads, strict=True):
        p.grad = grad
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    with torch.no_grad():
        return sum(loss(model, step, draw).item() for draw in draws) / len(draws)


def copy_of(model, optimizer):
    grads = [p.grad.clone() for p in model.parameters()]
    model, optimizer = copy.deepcopy((model, optimizer))
    return model, optimizer, grads


def parabola(multiples, losses):
    """Return curvature, slope and R^2 by the normal equations."""
    x, y = np.array(multiples), np.array(losses)
    design = np.stack([x**2 / 2, x, np.ones_like(x)], axis=1)
    curvature, slope, level = np.linalg.solve(design.T @ design, design.T @ y)
    residual = y - design @ np.array([curvature, slope, level])
    return curvature, slope, 1 - np.sum(residual**2) / np.sum((y - y.mean()) ** 2)


def run(model, optimizer, loss, *, steps, seed_rate, warmup, explore, period, draws, multiples,
        least_r2, damping, trust, shrink):  # fmt: skip
    """Return each step's rate, and what each fit found: step, optimum, R^2, accepted."""
    rates, fits, lr = [], [], seed_rate
    for step in range(steps):
        optimizer.zero_grad()
        loss(model, step, None).backward()
        if step >= warmup and (step - warmup - explore) % period == 0:
            losses = [probe(model, optimizer, m * lr, step, draws, loss) for m in multiples]
            curvature, slope, r2 = parabola(multiples, losses)
            accepted = curvature > 0 and (slope < 0 or shrink) and r2 >= least_r2
            optimum = -slope / curvature * lr if curvature > 0 else math.nan
            fits.append((step, optimum, r2, bool(accepted)))
            if accepted and step >= warmup + explore:
                aim = min(max(optimum, lr / trust), lr * trust)
                lr = (1 - damping) * lr + damping * aim
        rate = lr * (step + 1) / warmup if step < warmup else lr
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        rates.append(rate)
    return rates, fits
