"""Features of the losses and of the clock."""

from __future__ import annotations

import math

from meta_lr.methods.features.arithmetic import Arithmetic, Number
from meta_lr.methods.features.feature import LEAST, Feature, Moment, Values, log, share_of_run
from meta_lr.protocol import Need

FIRST = 10  # losses that count as the first ones
WINDOW = 100  # steps of the running mean and deviation
SCALES = (3, 10, 30, 100, 1000)  # windows of the changes, in steps
OPENING = 20  # steps that count as the start of a run
_QUIET = 1e-3  # smallest deviation, as a share of the mean
_FAR = 5.0  # larger deviations are clipped to this value
_CALM = 1e-6  # smallest variance of the log loss
_LEVEL = 10  # steps that the level and the noise are smoothed over


def _loss(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    return now.loss, values


def _log_loss(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    return log(ops, now.loss), values


def _relative_loss(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    count, first = values
    first = first + ops.clip(FIRST - count, 0, 1) * (now.loss - first) / (count + 1)
    count = ops.clip(count + 1, 0, FIRST)
    level, start = (log(ops, x) for x in (now.loss, first))
    return level - start, (count, first)


def _normalised_loss(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    weight, mean, variance = values
    weight = weight * (WINDOW / (WINDOW + 1)) + 1
    gap = now.loss - mean
    mean = mean + gap / weight
    variance = (1 - 1 / weight) * (variance + gap * gap / weight)  # West (1979)
    quiet = _QUIET * mean
    deviation = ops.sqrt(variance + quiet * quiet + LEAST**2)
    return ops.clip((now.loss - mean) / deviation, -_FAR, _FAR), (weight, mean, variance)


def _level(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    weight, smooth, *first = values
    weight = weight * (_LEVEL / (_LEVEL + 1)) + 1
    smooth = smooth + (now.loss - smooth) / weight
    relative, first = _relative_loss(ops, now, first)
    return log(ops, smooth) - log(ops, now.loss) + relative, (weight, smooth, *first)


def _noise(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    weight, mean, variance = values
    weight = weight * (_LEVEL / (_LEVEL + 1)) + 1
    gap = log(ops, now.loss) - mean
    mean = mean + gap / weight
    variance = (1 - 1 / weight) * (variance + gap * gap / weight)
    return ops.log(variance + _CALM) / math.log(100) + 1, (weight, mean, variance)


def _change(steps: int | None) -> Feature:
    def update(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
        weight, smooth, past = values
        n = share_of_run(now.total_steps) if steps is None else steps
        weight = weight * (n / (n + 1)) + 1
        smooth = smooth + (now.loss - smooth) / weight
        level = log(ops, smooth)
        past = past + (level - past) / weight
        return level - past, (weight, smooth, past)

    window = "twentieth of the run" if steps is None else f"{steps} steps"
    meaning = f"change of the smoothed loss over the last {window}, which it is smoothed over"
    return Feature(
        meaning, "e-folds", update, 3, Need.LOSS | Need.HORIZON if steps is None else Need.LOSS
    )


def _progress(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    return min(now.step / now.total_steps, 1.0), values


def _run_length(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    return math.log10(now.total_steps / 1000), values


def _remaining(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    return math.sqrt(1 - min(now.step / now.total_steps, 1.0)), values


def _opening(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    return min(now.step / OPENING, 1.0), values


LOSS_FEATURES: dict[str, Feature] = {
    "loss": Feature("the batch's mean loss, as it is", "nats", _loss),
    "log_loss": Feature("logarithm of the loss", "e-folds from 1 nat", _log_loss),
    "relative_loss": Feature(
        f"logarithm of the loss over the mean of the run's first {FIRST}",
        "e-folds",
        _relative_loss,
        2,
    ),
    "normalised_loss": Feature(
        f"the loss less its running mean, over its running deviation, both over {WINDOW} steps",
        f"deviations, cut at {_FAR:g}",
        _normalised_loss,
        3,
    ),
    "level": Feature(
        f"logarithm of the loss smoothed over {_LEVEL} steps, over the mean of the first {FIRST}",
        "e-folds",
        _level,
        4,
    ),
    "noise": Feature(
        f"deviation of the logarithm of the loss from its mean, both over {_LEVEL} steps",
        "decades from 0.1 e-folds, at least -2",
        _noise,
        3,
    ),
    **{f"change_{steps}": _change(steps) for steps in SCALES},
    "change_share": _change(None),
    "progress": Feature(
        "fraction of the run that is done", "runs, at most 1", _progress, needs=Need.HORIZON
    ),
    "remaining": Feature(
        "square root of the fraction of the run that is left",
        "at most 1",
        _remaining,
        needs=Need.HORIZON,
    ),
    "opening": Feature(
        f"fraction of the first {OPENING} steps that is done", "at most 1", _opening
    ),
    "run_length": Feature(
        "logarithm of the run's length", "decades from 1000 steps", _run_length, needs=Need.HORIZON
    ),
}
