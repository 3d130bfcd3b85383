"""Features of the gradient and of the weights: the size and the direction of the steps."""

from __future__ import annotations

import math

from meta_lr.methods.features.arithmetic import Arithmetic, Number
from meta_lr.methods.features.feature import LEAST, Feature, Moment, Values, share_of_run
from meta_lr.protocol import Need

_TREND = 10  # steps that the gradient's size is smoothed over
_NEEDS = Need.PARAMS | Need.GRADS


def _alignment(steps: int | None) -> Feature:
    def update(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
        assert now.signals is not None
        n = share_of_run(now.total_steps) if steps is None else steps
        cosine = ops.clip(now.signals.alignment, -1.0, 1.0)
        smooth = values[0] + (cosine - values[0]) / (n + 1)
        return smooth, (smooth,)

    window = "a twentieth of the run" if steps is None else f"{steps} steps"
    meaning = f"cosine between the gradient and the last step down, smoothed over {window} from 0"
    needs = _NEEDS | Need.HORIZON if steps is None else _NEEDS
    return Feature(meaning, "from -1 to 1", update, 1, needs)


def _gradient_trend(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    assert now.signals is not None
    weight, smooth, first = values
    level = _log_size(ops, now.signals.gradient)
    first = first + ops.clip(1 - weight, 0, 1) * (level - first)  # its value at the first step
    weight = weight * (_TREND / (_TREND + 1)) + 1
    smooth = smooth + (level - smooth) / weight
    return smooth - first, (weight, smooth, first)


def _relative_update(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    assert now.signals is not None
    size = ops.log(ops.clip(now.signals.update, LEAST, 1 / LEAST)) / math.log(10) + 3
    size = ops.pick(now.signals.update, size, values[0])
    return size, (size,)


def _spread(ops: Arithmetic, now: Moment, values: Values) -> tuple[Number, Values]:
    assert now.signals is not None
    return ops.log(ops.clip(now.signals.spread, 1e-3, 1e3)) / math.log(10) + 1, values


def _log_size(ops: Arithmetic, value: Number) -> Number:
    return ops.log(ops.clip(value, LEAST**4, LEAST**-4))


SIGNAL_FEATURES: dict[str, Feature] = {
    "alignment_5": _alignment(5),
    "alignment_30": _alignment(30),
    "alignment_share": _alignment(None),
    "gradient_trend": Feature(
        f"logarithm of the gradient's size smoothed over {_TREND} steps, over the first one",
        "e-folds",
        _gradient_trend,
        3,
        _NEEDS,
    ),
    "relative_update": Feature(
        "logarithm of the last step's size, in units of the weights",
        "decades from 0.001",
        _relative_update,
        1,
        _NEEDS,
    ),
    "spread": Feature(
        "logarithm of the distance from the weights smoothed over a twentieth of the run, in units "
        "of the weights",
        "decades from 0.1, from -2 to 4",
        _spread,
        needs=_NEEDS | Need.HORIZON,
    ),
}
