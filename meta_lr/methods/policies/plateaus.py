"""What policies that change at plateaus have in common: a list, checks of `val`, counts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.text import from_text
from meta_lr.protocol import Need, StepView


def as_policies(given: Sequence[Policy | str]) -> tuple[Policy, ...]:
    """Return policies, of which some may be given as text in LRBench's form.

    Raises:
        ValueError: There is none, or one is no single policy.
    """
    if isinstance(given, str) or not given:
        raise ValueError(f"policies are {given!r}; a list of at least one is needed")
    policies = [from_text(policy) if isinstance(policy, str) else policy for policy in given]
    for policy in policies:
        if not isinstance(policy, Policy) or policy.per != "step":
            raise ValueError(f"{policy} is no single policy that counts steps; leave it out")
    return tuple(policy for policy in policies if isinstance(policy, Policy))


def needs_of(check_every: int) -> Need:
    """Return what is read: trials, the run's length, and that of an epoch if it is the period."""
    return Need.TRIALS | Need.HORIZON | (Need.NOTHING if check_every else Need.EPOCHS)


def is_check(view: StepView, check_every: int) -> bool:
    """Return whether `val` is measured before this step: after each period, 0 being an epoch."""
    return view.step > 0 and view.step % (check_every or view.steps_per_epoch) == 0


def stalls(values: Sequence[float], window: int, threshold: float) -> bool:
    """Return whether none of the last `window` steps of a series lowers it by the threshold."""
    if len(values) <= window:
        return False
    return not any(a - b >= threshold for a, b in pairwise(values[-window - 1 :]))
