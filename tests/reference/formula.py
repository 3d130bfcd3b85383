"""The 34 policies as the published table has them: a rate at a time, each by a formula of its own.

A = k1 - k0; T, S and C are the triangle, the sine and the cosine, F what is left of a tooth.
"""

import math


def rates(name, num_steps, **numbers):
    """Return the rates at 0, 1, 2, ..."""
    return [rate(name, t, **numbers) for t in range(num_steps)]


def rate(name, t, k0, k1=0.0, l=1, gamma=1.0, p=1.0):  # noqa: E741  # as the table calls it
    if name in ONCE:
        return ONCE[name](t, k0, k1, l, gamma, p)
    for ending in ("EXP", "2"):
        if name.endswith(ending):
            height, cycles = CYCLES[name[: -len(ending)]](t, l)
            share = gamma**t if ending == "EXP" else 1 / 2**cycles
            return (k1 - k0) * height * share + k0
    height, _ = CYCLES[name](t, l)
    return (k1 - k0) * height + k0


def nstep(t, k0, gamma, boundaries):
    rate = k0
    for boundary in boundaries:
        if t >= boundary:
            rate = rate * gamma
    return rate


def poly(t, k0, k1, span, p):
    if t >= span:
        return k0
    return (k1 - k0) * (1 - t / span) ** p + k0


ONCE = {
    "FIX": lambda t, k0, k1, span, gamma, p: k0,
    "STEP": lambda t, k0, k1, span, gamma, p: k0 * gamma ** math.floor(t / span),
    "NSTEP": lambda t, k0, k1, span, gamma, p: nstep(t, k0, gamma, span),
    "EXP": lambda t, k0, k1, span, gamma, p: k0 * gamma**t,
    "INV": lambda t, k0, k1, span, gamma, p: k0 * (1 + gamma * t) ** (-p),
    "POLY": lambda t, k0, k1, span, gamma, p: poly(t, k0, k1, span, p),
    "SIG": lambda t, k0, k1, span, gamma, p: k0 / (1 + math.exp(-gamma * (t - span))),
}


def triangle(t, span):
    return 2 / math.pi * abs(math.asin(math.sin(math.pi * t / (2 * span))))


def sine(t, span):
    return abs(math.sin(math.pi * t / (2 * span)))


def cosine(t, span, phase):
    return 0.5 * (1 + math.cos(math.pi * t / span + phase))


def left(t, span):
    return math.ceil(t / span) - t / span


# the height, and how many cycles are over
CYCLES = {
    "TRI": lambda t, span: (triangle(t, span), t // (2 * span)),
    "SIN": lambda t, span: (sine(t, span), t // (2 * span)),
    "DTRI": lambda t, span: (triangle(t + span, span), (t + span) // (2 * span)),
    "DSIN": lambda t, span: (sine(t + span, span), (t + span) // (2 * span)),
    "COS": lambda t, span: (cosine(t, span, 0), (t + span) // (2 * span)),
    "UPCOS": lambda t, span: (cosine(t, span, math.pi), t // (2 * span)),
    "RSW": lambda t, span: (left(t, span), t // span),
    "SINRSW": lambda t, span: (math.sin(math.pi / 2 * left(t, span)), t // span),
    "COSRSW": lambda t, span: (0.5 * (1 - math.cos(math.pi * left(t, span))), t // span),
}
NAMES = [*ONCE, *(f"{name}{ending}" for name in CYCLES for ending in ("", "2", "EXP"))]
