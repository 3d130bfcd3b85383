"""Common parts of the policies that change at plateaus: the list, and the checks on `val`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.text import from_text
from meta_lr.protocol import Need, StepView


def as_policies(given: Sequence[Policy | str]) -> tuple[Policy, ...]:
    """Return a tuple of policies; policies given as text in LRBench's form are parsed.

    Raises:
        ValueError: There are no policies, or one is not a single policy.
    """
    if isinstance(given, str) or not given:
        raise ValueError(f"policies are {given!r}; a list of at least one is needed")
    policies = [from_text(policy) if isinstance(policy, str) else policy for policy in given]
    for policy in policies:
        if not isinstance(policy, Policy) or policy.per != "step":
            raise ValueError(f"{policy} is no single policy that counts steps; leave it out")
    return tuple(policy for policy in policies if isinstance(policy, Policy))


def needs_of(check_every: int) -> Need:
    """Return the needs: trials, the run length, and that of an epoch if it is the period."""
    return Need.TRIALS | Need.HORIZON | (Need.NOTHING if check_every else Need.EPOCHS)


def is_check(view: StepView, check_every: int) -> bool:
    """Return whether `val` is measured before this step: after each period; 0 means one epoch."""
    return view.step > 0 and view.step % (check_every or view.steps_per_epoch) == 0


def stalls(values: Sequence[float], window: int, threshold: float) -> bool:
    """Return whether none of the last `window` changes of a series is a fall by `threshold`."""
    if len(values) <= window:
        return False
    return not any(a - b >= threshold for a, b in pairwise(values[-window - 1 :]))
