"""Which options of AutoLRS cannot be used, in its two versions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from meta_lr.methods.autolrs.stages import stage

if TYPE_CHECKING:
    from meta_lr.methods.autolrs.method import AutoLRS
    from meta_lr.methods.autolrs.paper import AutoLRSPaper

Rule = tuple[tuple[str, ...], bool, str]  # names of options, whether they will do, what they need


def refuse_unusable(method: AutoLRS | AutoLRSPaper, rules: Iterable[Rule]) -> None:
    """Raise a ValueError that says which of the method's options came, and what they need."""
    for names, holds, needed in (*_shared(method), *rules):
        if not holds:
            came = ", ".join(f"{name}={getattr(method, name)!r}" for name in names)
            raise ValueError(f"{type(method).__name__} got {came}; it needs {needed}")


def _shared(method: AutoLRS | AutoLRSPaper) -> Iterator[Rule]:
    rates = 0 < method.min_lr < method.max_lr < math.inf
    yield ("min_lr", "max_lr"), rates, "0 < min_lr < max_lr"
    steps, peak = method.warmup_steps, method.warmup_lr
    rises = 0 <= peak < math.inf and steps >= 0 and (peak > 0 or steps == 0)
    needed = "steps >= 0 and, for a rise, a finite rate > 0"
    yield ("warmup_steps", "warmup_lr"), rises, needed


def of_ours(method: AutoLRS) -> Iterator[Rule]:
    """Yield the rules for what only our version takes."""
    known = [length for length in (method.tau, method.tau_max) if length is not None]
    rising = all(length >= 1 for length in known) and known == sorted(known)
    yield ("tau", "tau_max"), rising, "1 <= tau <= tau_max, in steps, or null"
    fits = method.tau is None or method.shortest <= method.tau
    yield ("tau", "shortest"), fits, "a first stage that is no shorter than its trials"
    first, above, change = method.first_trials, method.stop_above, method.max_change
    yield ("first_trials",), first is None or first >= 1, "a whole number >= 1, or null"
    for name, whole in (("anneal", "a trial"), ("cooldown", "the run")):
        part = getattr(method, name)
        yield (name,), 0 <= part < 1, f"a part of {whole}: a number in [0, 1)"
    finite = "a finite number > 0, or null"
    yield ("stop_above",), above is None or 0 < above < math.inf, finite
    yield ("max_change",), change is None or 1 < change < math.inf, "a finite factor > 1, or null"


def of_paper(method: AutoLRSPaper) -> Iterator[Rule]:
    """Yield the rules for what only the published version takes."""
    rising = 1 <= method.tau <= method.tau_max
    yield ("tau", "tau_max"), rising, "1 <= tau <= tau_max, in steps"
    yield ("kappa",), 0 <= method.kappa < math.inf, "a finite number >= 0"
    plan = stage(0, method.tau, method.tau_max, method.ratio)
    needed = "trials of two steps or more, as the first is at the rate before"
    yield ("tau", "ratio"), plan.trial > 1, needed
