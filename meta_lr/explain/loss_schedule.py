"""Analysis of a schedule of the loss: its learning rates, and the influence of the losses."""

from __future__ import annotations

import sys
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from meta_lr import seeds
from meta_lr.methods.curve import learning_rates
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.piecewise import Piecewise
from meta_lr.records.reader import NAME, Record, read_record, rows_from

Array: TypeAlias = NDArray[np.float64]
Curves: TypeAlias = Mapping[str, Array]  # name -> one loss (nats), or one learning rate, per step

SHORTEST = 10  # steps of the shortest useful run
NOTHING = 0.01  # a smaller relative difference of learning rates is ignored
RANGE = (0.05, 2.5)  # nats, of synthetic losses for a checkpoint without a loss range
NOISE = 0.05  # standard deviation of the logarithm of a synthetic loss
SHAPES = {  # start and end, as shares of the loss range, and e-folds between them in a run
    "synthetic, middle": (0.9, 0.2, 5.0),
    "synthetic, slow": (0.9, 0.2, 1.0),
    "synthetic, high": (0.95, 0.5, 5.0),
    "synthetic, low": (0.5, 0.05, 5.0),
}
TOLERANCE, MOST_KNOTS = 0.02, 32  # of the distilled policy


@dataclass(frozen=True)
class Effect:
    """The effect of changed losses on the learning rate: (new / old - 1) over a run's steps."""

    change: str
    median: float
    largest: float  # largest in absolute value; with its sign


@dataclass(frozen=True)
class Explanation:
    """The result of the analysis; most values refer to the first curve, or compare others with it.

    Attributes:
        losses: The input: name -> losses (steps,).
        rates: The output: the same names -> learning rates (steps,).
        verdict: "a constant", "a fixed curve" or "it listens to the loss".
        spread: (highest - lowest) / highest of all learning rates on all curves.
        difference: The largest (higher - lower) / higher of the learning rates of two curves at the
            same step.
        usual_difference: The median over the steps of the largest such value.
        loss_difference: The same median for the losses: the difference between the inputs.
        effects: The effects of changes of the first curve.
        policy: The distilled policy: a closed form of the learning rates on the first curve.
        policy_error: The largest relative error of the policy on this curve.
        usual_policy_error: The median of the relative errors of the policy on this curve.
    """

    losses: Curves
    rates: Curves
    verdict: str
    spread: float
    difference: float
    usual_difference: float
    loss_difference: float
    effects: tuple[Effect, ...]
    policy: Piecewise
    policy_error: float
    usual_policy_error: float


def explain(learned: Learned, losses: Curves) -> Explanation:
    """Replay the curves, compare their learning rates, and distil those of the first curve.

    Raises:
        ValueError: There is nothing to compare: fewer than two different curves of one length.
    """
    first = next(iter(losses.values()))
    if all(np.array_equal(first, other) for other in losses.values()):
        raise ValueError("the losses of the runs are all the same; pass runs whose losses differ")
    rates = {name: replay(learned, curve) for name, curve in losses.items()}
    gaps, everything = _gaps(list(rates.values())), np.concatenate(list(rates.values()))
    spread = float(_gap(everything.min(), everything.max()))
    policy, errors = distil(next(iter(rates.values())))
    return Explanation(
        losses,
        rates,
        _verdict(spread, float(gaps.max())),
        spread=spread,
        difference=float(gaps.max()),
        usual_difference=float(np.median(gaps)),
        loss_difference=float(np.median(_gaps(list(losses.values())))),
        effects=_effects(learned, first),
        policy=policy,
        policy_error=float(errors.max()),
        usual_policy_error=float(np.median(errors)),
    )


def replay(learned: Learned, losses: Array) -> Array:
    """Return the learning rates (steps,) in a run with exactly these losses (steps,)."""
    quiet = replace(learned, loss_range=None)  # the warning is only for real training
    with np.errstate(over="ignore"):  # the output may be 0 far from all known losses
        return np.array(learning_rates(quiet, len(losses), losses=losses.tolist()))


def distil(rates: Array) -> tuple[Piecewise, Array]:
    """Return a policy through some of the learning rates (steps,), and its errors (steps,).

    The errors are relative. A new knot is added at the largest error, until all errors are below
    `TOLERANCE` or there are `MOST_KNOTS` knots.
    """
    if not rates.all():
        raise ValueError(f"the rate is 0 at step {int(rates.argmin())}; it has no logarithm")
    steps, logs, knots = np.arange(len(rates)), np.log(rates), [0, len(rates) - 1]
    while True:
        errors = np.abs(np.expm1(np.interp(steps, knots, logs[knots]) - logs))
        if errors.max() < TOLERANCE or len(knots) == MOST_KNOTS:
            break
        insort(knots, int(errors.argmax()))
    pairs = [(knot / len(rates), float(rates[knot])) for knot in knots]
    return Piecewise(pairs), errors


def synthetic(loss_range: tuple[float, float] | None, steps: int) -> dict[str, Array]:
    """Return noisy exponential decays inside a range of losses, at several levels and slopes."""
    low, high = loss_range or RANGE
    part, curves = np.arange(steps) / steps, {}
    for name, (start, end, folds) in SHAPES.items():
        generator = np.random.default_rng(seeds.derive(0, "explain", name))
        mean = low + (high - low) * (end + (start - end) * np.exp(-folds * part))
        noise = np.exp(NOISE * generator.standard_normal(steps))
        curves[name] = np.clip(mean * noise, low, high)
    return curves


def curves(
    folders: Sequence[Path], loss_range: tuple[float, float] | None, steps: int | None, usual: int
) -> dict[str, Array]:
    """Return at least two curves of losses of one length; those of recorded runs come first.

    With fewer than two runs there are synthetic losses too, in `loss_range`. If `steps` is None,
    the length is that of the first run, or `usual` without one.
    """
    found: dict[str, Array] = {}
    for folder in folders:
        name, losses = recorded(folder)
        same = sum(other.partition(" (")[0] == name for other in found)
        found[f"{name} ({same + 1})" if same else name] = losses
    steps = steps or next(map(len, found.values()), usual)
    found = {name: stretched(losses, steps) for name, losses in found.items()}
    return found if len(found) > 1 else {**found, **synthetic(loss_range, steps)}


def recorded(folder: Path) -> tuple[str, Array]:
    """Return the name of the run in `folder`, and its losses (steps,).

    If not every step was recorded, a loss is repeated until the next recorded one.

    Raises:
        ValueError: There is no finished run, or it is too short.
    """
    if not (folder / NAME).is_file():
        raise ValueError(f"'{folder}' holds no {NAME}; pass the folder of a run")
    with rows_from(folder / NAME):
        return _recorded(folder, read_record(folder))


def _recorded(folder: Path, record: Record) -> tuple[str, Array]:
    found = [(row["step"], row["loss"]) for row in record.steps]
    if not found:
        raise ValueError(f"the run in '{folder}' recorded no steps; pass another one")
    head, end = record.header, record.end
    if end.get("status") != "finished":
        done, total = found[-1][0] + 1, head["total_steps"]
        status = end.get("status", "unfinished")
        raise ValueError(
            f"the run in '{folder}' is {status} ({done} of {total} steps); pass a finished one"
        )
    if end["steps"] < SHORTEST:
        raise ValueError(
            f"the run in '{folder}' has {end['steps']} steps; needed are at least {SHORTEST}"
        )
    steps, losses = (np.array(column, dtype=np.float64) for column in zip(*found, strict=True))
    latest = np.searchsorted(steps, np.arange(end["steps"]), side="right") - 1
    return f"{head['task']}, {head['method']}, seed {head['seed']}", losses[latest]


def stretched(losses: Array, steps: int) -> Array:
    """Return the losses of a run, resampled to another number of steps."""
    return losses[np.arange(steps) * len(losses) // steps]


def _verdict(spread: float, difference: float) -> str:
    if spread < NOTHING:
        return "a constant"
    return "a fixed curve" if difference < NOTHING else "it listens to the loss"


def _effects(learned: Learned, losses: Array) -> tuple[Effect, ...]:
    """Return the effects of a change of level, slope or time on the learning rates of a curve."""
    num, part = len(losses), np.arange(len(losses)) / len(losses)
    later = max(1, num // 100)
    delayed = np.concatenate([np.full(later, losses[0]), losses[:-later]])
    usual = replay(learned, losses)
    return (
        _effect("losses 10 % higher", usual, replay(learned, losses + 0.1 * np.abs(losses))),
        _effect(
            "losses falling by 10 % more over the run, around the same middle",
            usual,
            replay(learned, losses + (1.1 ** (0.5 - part) - 1) * np.abs(losses)),
        ),
        _effect(
            f"the same losses, later by {later} of {num} steps",
            usual[:-later],
            replay(learned, delayed)[later:],
        ),
    )


def _effect(change: str, old: Array, new: Array) -> Effect:
    relative = new / np.maximum(old, sys.float_info.min) - 1
    return Effect(change, float(np.median(relative)), float(relative[np.abs(relative).argmax()]))


def _gaps(curves: Sequence[Array]) -> Array:
    """Return the largest relative difference of any two curves, at each step."""
    return np.max([_gap(a, b) for a, b in combinations(curves, 2)], axis=0)


def _gap(a: Array, b: Array) -> Array:
    """Return |a - b| divided by the larger absolute value; 0 if both are 0."""
    return np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), sys.float_info.min)
