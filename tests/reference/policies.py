"""The policies as plain loops over floats, one rate per step."""

import math


def constant(num_steps, peak):
    return [peak for _ in range(num_steps)]


def cosine(num_steps, total_steps, peak, floor=0.0):
    rates = []
    for step in range(num_steps):
        if step >= total_steps:
            rates.append(floor)
            continue
        angle = math.pi * step / total_steps
        rates.append(floor + 0.5 * (peak - floor) * (1.0 + math.cos(angle)))
    return rates


def multi_step(num_steps, total_steps, peak, milestones=(0.5, 0.75), factor=0.1):
    drops = [round(milestone * total_steps) for milestone in milestones]
    rates, rate = [], peak
    for step in range(num_steps):
        for drop in drops:
            if step == drop:
                rate = rate * factor
        rates.append(rate)
    return rates


def one_cycle(num_steps, total_steps, peak, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
    first = peak / div_factor
    last = first / final_div_factor
    top = pct_start * total_steps - 1
    end = total_steps - 1
    rates = []
    for step in range(num_steps):
        if step > end:
            rates.append(last)
        elif 0 < top and step <= top:
            share = 0.5 * (1.0 - math.cos(math.pi * step / top))
            rates.append((1.0 - share) * first + share * peak)
        elif end > top:
            share = 0.5 * (1.0 - math.cos(math.pi * (step - top) / (end - top)))
            rates.append((1.0 - share) * peak + share * last)
        else:
            rates.append(last)
    return rates
