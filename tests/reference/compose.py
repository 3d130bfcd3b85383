"""Warm-up and composition on lists of rates."""


def warmup(rates, steps):
    warmed = []
    for step, rate in enumerate(rates):
        share = 1.0
        if step + 1 < steps:
            share = (step + 1) / steps
        warmed.append(share * rate)
    return warmed


def composite(boundaries, runs):
    """Each of `runs` holds one part's rates from its own first step on; the last is the longest."""
    rates = []
    start = 0
    for boundary, run in zip(boundaries, runs[:-1], strict=True):
        for step in range(start, boundary):
            rates.append(run[step - start])
        start = boundary
    return rates + list(runs[-1])
