"""A composite by trials, flat and slow: copies of a model and its optimizer, and nothing of ours.

`batch(step, draw)` and `val(number)` give data, `loss(model, data)` a loss; policies are functions
of a count. Dropout and buffers are the caller's business: the problem should have none.
"""

import copy

import torch


def run(model, optimizer, loss, batch, val, policies, *, steps, check, trial, patience, threshold):
    """Return the rates, and (start, index) of each part."""
    rates, parts, best, stale = [], [], float("inf"), 0

    def measured(model):
        values, sizes = [], []
        with torch.no_grad():
            for number in range(2):
                values.append(float(loss(model, val(number))))
                sizes.append(len(val(number)[0]))
        return sum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes)

    def step_of(model, optimizer, data, rate):
        optimizer.zero_grad()
        value = loss(model, data)
        value.backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()

    def tried(index, now, since):
        twin, twin_optimizer = copy.deepcopy((model, optimizer))
        for i in range(min(trial, steps - now)):
            step_of(twin, twin_optimizer, batch(now, i), policies[index](now - since + i))
        return measured(twin)

    def search(now):
        scores = [tried(index, now, now) for index in range(len(policies))]
        winner = scores.index(min(scores))
        if parts and tried(parts[-1][1], now, parts[-1][0]) <= scores[winner]:
            return
        parts.append((now, winner))

    for now in range(steps):
        optimizer.zero_grad()
        loss(model, batch(now, None)).backward()
        if now == 0:
            search(now)
        elif now % check == 0:
            value = measured(model)
            if value < best - threshold * abs(best) or best == float("inf"):
                best, stale = value, 0
            else:
                stale += 1
            if stale >= patience:
                best, stale = float("inf"), 0
                search(now)
        rate = policies[parts[-1][1]](now - parts[-1][0])
        rates.append(rate)
        optimizer.zero_grad()
        step_of(model, optimizer, batch(now, None), rate)
    return rates, parts
