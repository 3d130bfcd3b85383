"""ChangeLROnPlateau as its published description goes: a callback per batch, one per epoch.

`run` is told the policies as functions of an iteration, from high rates to low, and `measure`,
which it calls at the end of each epoch for the monitored value.
"""


def run(policies, measure, *, iterations, per_epoch, start, cooldown, threshold, detect, turn=0.8):
    """Yield the rates of all iterations."""
    history = []
    index, wait = start, 0
    for iteration in range(iterations):
        if iteration > 0 and iteration % per_epoch == 0:  # an epoch has ended
            history.append(measure(iteration))
            plateau = False
            if len(history) > detect:
                improvements = []
                for i in range(len(history) - detect, len(history)):
                    improvements.append(history[i - 1] - history[i])
                plateau = max(improvements) < threshold
            if wait > 0:
                wait = wait - 1
            elif plateau:
                if iteration < turn * iterations:
                    index = max(index - 1, 0)
                else:
                    index = min(index + 1, len(policies) - 1)
                wait = cooldown
        yield policies[index](iteration + 1)
