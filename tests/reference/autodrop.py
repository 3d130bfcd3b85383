"""AutoDrop as its paper of 2024 and the code of 2021 go: all that was seen is kept in lists."""

import math

import torch


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).clone()


def degrees(a, b):
    cosine = float(a @ b) / (float(a.norm()) * float(b.norm()) + 1e-300)
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def gaussian(buffer, m):
    """The last value of the buffer after a Gaussian over lags, of width m on both sides."""
    sigma = min(float(torch.tensor(buffer, dtype=torch.float64).std()), m / 2)
    top = bottom = 0.0
    for lag in range(m // 2 + 1):
        if lag < len(buffer):
            weight = math.exp(-(lag**2) / (2 * sigma**2))
            top += weight * buffer[len(buffer) - 1 - lag]
            bottom += weight
    return top / bottom


def step_with(model, optimizer, loss, batch, lr):
    optimizer.param_groups[0]["lr"] = lr
    optimizer.zero_grad()
    loss(model, batch).backward()
    optimizer.step()


def run_2024(
    model, optimizer, loss, batch, *, steps, lr, rho, k, m, least, threshold, floor, signed
):
    """Return the rates of all steps, and all angles."""
    rates, positions, means, angles = [], [], [], []
    buffer, smoothed = [], []
    for step in range(steps):
        rates.append(lr)
        step_with(model, optimizer, loss, batch(step), lr)
        positions.append(flat(model))
        if len(positions) % k:
            continue
        means.append(torch.stack(positions[-k:]).mean(dim=0))
        if len(means) < 3:
            continue
        angles.append(degrees(means[-1] - means[-2], means[-2] - means[-3]))
        buffer.append(angles[-1])
        if len(buffer) < least:
            continue
        smoothed.append(gaussian(buffer, m))
        buffer.pop(0)
        if len(smoothed) < 2:
            continue
        change = smoothed[-1] - smoothed[-2]
        if change < threshold and (signed or change > -threshold):
            lr = max(floor, rho * lr)
            buffer, smoothed = [], []
    return rates, angles


def run_2021(
    model, optimizer, loss, batch, *, epochs, per_epoch, lr, rho, theta, cap, floor, extra, average
):
    """Return the rates of all steps, all angles, and the epochs of the drops."""
    rates, snapshots, angles, stash, drops = [], [], [], [], []
    latched, counter = False, 0
    for epoch in range(1, epochs + 1):
        for iteration in range(1, per_epoch + 1):
            rates.append(lr)
            step_with(model, optimizer, loss, batch(len(rates) - 1), lr)
            if iteration == 1:
                snapshots.append(flat(model))
            if iteration != 2 or len(snapshots) < 3:
                continue
            newest, middle, oldest = snapshots[-1], snapshots[-2], snapshots[-3]
            angles.append(degrees(newest - middle, middle - oldest))
            if len(angles) >= 2 and -theta < angles[-1] - angles[-2] < theta:
                latched = True
            if not latched:
                continue
            counter += 1
            stash.append(counter * flat(model))
            if counter < extra:
                continue
            theta = min(cap, theta / rho)
            lr = max(floor, rho * lr)
            drops.append(epoch)
            if average:
                mean = torch.stack(stash).sum(dim=0) / ((1 + counter) * counter / 2)
                torch.nn.utils.vector_to_parameters(mean, model.parameters())
            latched, counter, stash = False, 0, []
    return rates, angles, drops
