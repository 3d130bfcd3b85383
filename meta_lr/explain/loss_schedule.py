"""What a checkpoint does: its rates on given losses, and how far the losses matter to them."""

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
Curves: TypeAlias = Mapping[str, Array]  # one loss (nats), or one rate, per step, by name

SHORTEST = 10  # steps of a run that says anything
NOTHING = 0.01  # a smaller relative difference of rates counts as none
RANGE = (0.05, 2.5)  # nats, of synthetic losses for a checkpoint that does not say what it saw
NOISE = 0.05  # standard deviation of the logarithm of a synthetic loss
SHAPES = {  # start and end, as parts of the range of losses, and e-folds between them in a run
    "synthetic, middle": (0.9, 0.2, 5.0),
    "synthetic, slow": (0.9, 0.2, 1.0),
    "synthetic, high": (0.95, 0.5, 5.0),
    "synthetic, low": (0.5, 0.05, 5.0),
}
TOLERANCE, MOST_KNOTS = 0.02, 32  # of the distilled policy


@dataclass(frozen=True)
class Effect:
    """How a change of the losses changes the rate: (new / old - 1) over the steps of a run."""

    change: str
    median: float
    largest: float  # in size; with its sign


@dataclass(frozen=True)
class Explanation:
    """What was found; all but the rates is about the first curve, or the others against it.

    Attributes:
        losses: What was fed, each of shape (steps,).
        rates: What it answered, shaped alike, under the same names.
        verdict: "a constant", "a fixed curve" or "it listens to the loss".
        spread: (highest - lowest) / highest of all rates on all curves.
        difference: The largest (higher - lower) / higher of two curves' rates at the same step.
        usual_difference: The median over the steps of the largest such value.
        loss_difference: The same median of the losses: how different what was fed is.
        effects: What changes of the first curve do.
        policy: The closed form of the rates on the first curve.
        policy_error: Its largest relative error there.
        usual_policy_error: The median of its relative errors there.
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
    """Replay the curves, compare the rates on them, and distil those on the first.

    Args:
        learned: The scheduler of a checkpoint.
        losses: At least two different curves, all of the same number of steps.

    Raises:
        ValueError: There is nothing to compare.
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
    """Return the rates (steps,) in a run of just these losses (steps,)."""
    quiet = replace(learned, loss_range=None)  # the warning is for a training
    with np.errstate(over="ignore"):  # an output of 0 far away from all losses
        return np.array(learning_rates(quiet, len(losses), losses=losses.tolist()))


def distil(rates: Array) -> tuple[Piecewise, Array]:
    """Return a policy through some of the rates (steps,), and its relative errors (steps,).

    A knot is put where the error is largest, until it is below `TOLERANCE` everywhere or there are
    `MOST_KNOTS`.
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


def recorded(folder: Path) -> tuple[str, Array]:
    """Return the name of the run in `folder`, and its losses (steps,).

    Where not every step was recorded, a loss counts until the next one.

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
    """Return the losses of a run as if it had another number of steps, by parts of the run."""
    return losses[np.arange(steps) * len(losses) // steps]


def _verdict(spread: float, difference: float) -> str:
    if spread < NOTHING:
        return "a constant"
    return "a fixed curve" if difference < NOTHING else "it listens to the loss"


def _effects(learned: Learned, losses: Array) -> tuple[Effect, ...]:
    """Return what a change of level, of slope and of time does to the rates on one curve."""
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
    """Return |a - b| over the larger of both in size; 0 where both are 0."""
    return np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), sys.float_info.min)
