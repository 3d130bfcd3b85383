"""A slow twin of the features: each from the whole list of losses, by explicit weighted means.

It imports nothing of the package and keeps no state. All numbers are plain floats.
"""

import math

LEAST = 1e-8


def ln(value):
    return math.log(max(value, LEAST))


def smoothed(values, steps):
    """The mean of all values with the weights (n / (n + 1))^age."""
    weights = [(steps / (steps + 1)) ** age for age in reversed(range(len(values)))]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def deviation(values, steps):
    mean = smoothed(values, steps)
    variance = smoothed([(value - mean) ** 2 for value in values], steps)
    return math.sqrt(variance + (mean / 1000) ** 2 + LEAST**2)


def feature(name, losses, total_steps):
    """The feature at the step of the last of `losses`, which are all of the run so far."""
    now = losses[-1]
    if name == "loss":
        return now
    if name == "log_loss":
        return ln(now)
    if name == "relative_loss":
        first = losses[:10]
        return ln(now) - ln(sum(first) / len(first))
    if name == "normalised_loss":
        away = (now - smoothed(losses, 100)) / deviation(losses, 100)
        return max(-5.0, min(5.0, away))
    if name == "progress":
        return min(1.0, (len(losses) - 1) / total_steps)
    if name == "run_length":
        return math.log(total_steps / 1000, 10)
    if name == "remaining":
        return math.sqrt(max(0.0, 1 - (len(losses) - 1) / total_steps))
    if name == "opening":
        return min(1.0, (len(losses) - 1) / 20)
    if name == "level":
        first = losses[:10]
        return ln(smoothed(losses, 10)) - ln(sum(first) / len(first))
    if name == "noise":
        logs = [ln(loss) for loss in losses]
        mean = smoothed(logs, 10)
        variance = smoothed([(log - mean) ** 2 for log in logs], 10)
        return math.log10(math.sqrt(variance + 1e-6) / 0.1)
    share = max(10.0, total_steps / 20)
    steps = share if name == "change_share" else int(name.removeprefix("change_"))
    levels = [ln(smoothed(losses[: t + 1], steps)) for t in range(len(losses))]
    return levels[-1] - smoothed(levels, steps)
