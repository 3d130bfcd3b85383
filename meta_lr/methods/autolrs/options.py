"""AutoLRS's options: those of the authors, and which cannot be used."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from meta_lr.methods.autolrs.stages import stage

if TYPE_CHECKING:
    from meta_lr.methods.autolrs.method import AutoLRS

# The authors' algorithm with their constants: AutoLRS(min_lr=..., max_lr=..., **PUBLISHED).
PUBLISHED: dict[str, Any] = {
    "tau": 1000,
    "tau_max": 8000,
    "ratio": 10,
    "shortest": 1,
    "trials": 10,
    "first_trials": None,
    "search": "gp_published",
    "kappa": 1000.0,
    "initial": 1,
    "choose": "least",
    "forecast": "published",
    "anneal": 0.0,
    "ramp": False,
    "cooldown": 0.0,
    "common_batches": False,
    "stop_above": None,
    "max_change": None,
    "steps": "published",
    "val_guard": True,
}
_CHOICES = {
    "search": ("grid", "random", "gp", "gp_published"),
    "choose": ("least", "mean"),
    "forecast": ("end", "published"),
    "steps": ("exact", "published"),
}

Rule = tuple[tuple[str, ...], bool, str]  # names of options, whether they will do, what they need


def refuse_unusable(method: AutoLRS) -> None:
    """Raise a ValueError that says which of the method's options came, and what they need."""
    for names, holds, needed in (*_lengths(method), *_numbers(method), *_choices(method)):
        if not holds:
            came = ", ".join(f"{name}={getattr(method, name)!r}" for name in names)
            raise ValueError(f"AutoLRS got {came}; it needs {needed}")


def _lengths(method: AutoLRS) -> Iterator[Rule]:
    known = [length for length in (method.tau, method.tau_max) if length is not None]
    rising = all(length >= 1 for length in known) and known == sorted(known)
    yield ("tau", "tau_max"), rising, "1 <= tau <= tau_max, in steps, or null"
    fits = method.tau is None or method.shortest <= method.tau
    yield ("tau", "shortest"), fits, "a first stage that is no shorter than its trials"
    for name in ("ratio", "shortest", "trials", "initial", "batches", "val_batches"):
        yield (name,), getattr(method, name) >= 1, "a whole number >= 1"
    if method.steps == "published" and method.tau is not None:
        plan = stage(0, method.tau, method.tau, method.ratio, method.shortest)
        needed = "trials of two steps or more, as the first is at the rate before"
        yield ("steps", "tau", "ratio", "shortest"), plan.trial > 1, needed
    first = method.first_trials
    yield ("first_trials",), first is None or first >= 1, "a whole number >= 1, or null"
    steps, peak = method.warmup_steps, method.warmup_lr
    rises = 0 <= peak < math.inf and steps >= 0 and (peak > 0 or steps == 0)
    needed = "steps >= 0 and, for a rise, a finite rate > 0"
    yield ("warmup_steps", "warmup_lr"), rises, needed


def _numbers(method: AutoLRS) -> Iterator[Rule]:
    rates = 0 < method.min_lr < method.max_lr < math.inf
    yield ("min_lr", "max_lr"), rates, "0 < min_lr < max_lr"
    yield ("kappa",), 0 <= method.kappa < math.inf, "a finite number >= 0"
    for name, whole in (("anneal", "a trial"), ("cooldown", "the run")):
        part = getattr(method, name)
        yield (name,), 0 <= part < 1, f"a part of {whole}: a number in [0, 1)"
    above, change = method.stop_above, method.max_change
    finite = "a finite number > 0, or null"
    yield ("stop_above",), above is None or 0 < above < math.inf, finite
    yield ("max_change",), change is None or 1 < change < math.inf, "a finite factor > 1, or null"


def _choices(method: AutoLRS) -> Iterator[Rule]:
    for name, choices in _CHOICES.items():
        yield (name,), getattr(method, name) in choices, "one of " + ", ".join(choices)
