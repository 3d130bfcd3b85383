"""The eight metrics with which LRBench compares learning-rate policies.

Utility: 1. top-1 and 2. top-5 accuracy, 3. the average confidence, 4. its spread and 5. its spread
across classes, all from `classification`. Robustness: 6. `loss_difference` and 7. `robustness` to
the base learning rate. Cost: 8. `to_target`, the iterations and the cost until a value is reached.

Reference: Wu et al. 2019, arXiv 1908.06477, and 2022, arXiv 2210.12936.
Deviations from the published code:
    1. the loss difference is test - train; that code stored train - test;
    2. a class without a correctly classified example has no confidence, so it is left out of the
       spread across classes; that code counted it as zero;
    3. that code uses the name "variance" for a standard deviation. Here it is also a standard
       deviation, but it is called a spread.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # only methods of tensors are used, so a list of results needs no import of torch
    from torch import Tensor

NUM_TOP = 5
SCALES = (1.0, 0.1, 0.5, 5.0, 10.0)
"""The factors of the base learning rate with which a run is repeated; 1 is the run itself."""


class Point(NamedTuple):
    """One evaluation on `val`: the number of steps, the cost, and the metrics."""

    step: int
    cost: float  # total so far, including experiments, in plain steps
    accuracy: float | None  # in [0, 1]; None if the task has none, or it is not finite
    loss: float | None


def curve_of(evaluations: Iterable[Mapping[str, Any]]) -> tuple[Point, ...]:
    """Return the points of rows of evaluations on `val`, as a record has them."""
    return tuple(
        Point(row["step"], row["cost"], row.get("accuracy"), row.get("loss")) for row in evaluations
    )


def classification(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the metrics 1 to 5 of all examples of a split.

    * `accuracy` and `top5`: shares of examples whose label has the largest logit, or one of the
      five largest; with five classes or fewer, every example is in the top five.
    * `confidence`: mean over the correctly classified examples of their softmax probability.
    * `confidence_spread`: standard deviation of these probabilities (divided by their number n).
    * `class_spread`: standard deviation, across the classes with a correctly classified example, of
      the mean confidence per class.

    All are in [0, 1]; without one correct example, the last three are nan.

    Args:
        logits: (examples, classes).
        labels: int64, (examples,), from 0 to classes - 1.

    Raises:
        ValueError: The arguments have other shapes.
    """
    return {name: float(value) for name, value in from_means(means(logits, labels)).items()}


def means(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return means over examples; their means over all batches give the metrics 1 to 5.

    All are float64. `top5` () is as in `classification`. `squares` () is the mean of the squared
    confidence, with 0 for incorrect examples. `correct` (classes,) is the share of all examples
    that have this class and are correct; `sums` (classes,) is the same, weighted by confidence.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not go together; "
            "needed are (examples, classes) and (examples,)"
        )
    own = logits.gather(1, labels[:, None])
    ahead = (~(logits <= own)).sum(dim=1)  # nan is never in the top five
    correct = (logits.argmax(dim=1) == labels).double()
    confidence = logits.double().softmax(dim=1).max(dim=1).values
    members = logits.new_zeros(logits.shape).double().scatter_(1, labels[:, None], 1.0)
    return {
        "top5": (ahead < NUM_TOP).double().mean(),
        "squares": (correct * confidence.square()).mean(),
        "correct": (members * correct[:, None]).mean(dim=0),
        "sums": (members * (correct * confidence)[:, None]).mean(dim=0),
    }


def from_means(means: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the metrics 1 to 5, each of shape (), from what `means` returned."""
    correct, sums = means["correct"], means["sums"]
    share = correct.sum()
    confidence = sums.sum() / share
    variance = (means["squares"] / share - confidence.square()).clamp(min=0.0)
    known = correct > 0
    per_class = sums[known] / correct[known]
    return {
        "accuracy": share,
        "top5": means["top5"],
        "confidence": confidence,
        "confidence_spread": variance.sqrt(),
        "class_spread": (per_class - per_class.mean()).square().mean().sqrt(),
    }


def loss_difference(*, test: float | None, train: float | None) -> float | None:
    """Return test - train loss: positive if the model is better on the training data."""
    return None if test is None or train is None else test - train


def robustness(accuracies: Mapping[float, float]) -> float | None:
    """Return the mean change of accuracy over the four other base learning rates; 0 is the best.

    Args:
        accuracies: Factor of the base learning rate -> accuracy in [0, 1]; 0 for a diverged run.

    Returns:
        None unless all of `SCALES` are present.
    """
    if not set(SCALES) <= set(accuracies):
        return None
    own, *others = (accuracies[scale] for scale in SCALES)
    return sum(others) / len(others) - own


def to_target(curve: Sequence[Point], target: float) -> tuple[int, float] | None:
    """Return steps and cost at the first evaluation that reaches `target`; None if none does.

    There is no interpolation. The curve is compared by accuracy if it has accuracies, else by loss.

    Args:
        curve: The evaluations in the order of their steps; empty for a diverged run, which reaches
            no target.
        target: An accuracy in (0, 1], or a loss.

    Raises:
        ValueError: The target is not finite, or it is no accuracy but the curve has accuracies.
    """
    accurate = any(point.accuracy is not None for point in curve)
    refuse_target(target, accurate=accurate)
    for point in curve:
        value = point.accuracy if accurate else point.loss
        if value is not None and (value >= target if accurate else value <= target):
            return point.step, point.cost
    return None


def refuse_target(target: float, *, accurate: bool) -> None:
    """Raise a ValueError unless `target` is a possible accuracy, or a loss if not `accurate`."""
    if accurate and not 0 < target <= 1:
        raise ValueError(
            f"the target {target:g} is no accuracy; "
            "pass a fraction above 0 and up to 1 (95 % is 0.95)"
        )
    if not math.isfinite(target):
        raise ValueError(f"the target {target:g} is no loss; pass a finite number")
