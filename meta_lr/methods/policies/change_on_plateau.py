"""ChangeLROnPlateau: at a plateau, change to a policy with higher or lower learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meta_lr.methods.checks import refuse_counts
from meta_lr.methods.policies import plateaus
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.text import label
from meta_lr.protocol import Need, StepView


class ChangeState(NamedTuple):
    """The active policy, the measured losses, and the remaining cooldown in checks."""

    policy: int
    values: tuple[float, ...] = ()
    stays: int = 0
    num_changes: int = 0


@dataclass(frozen=True)
class ChangeOnPlateau:
    """Change the policy at a plateau: to higher learning rates, or to lower ones late in the run.

    Update:
        rate(t) = policy(t + 1), where a change does not restart a policy's count;
        after every `check_every` steps v, the loss on `val`, is measured. It is at a plateau if
        none of the last `window` changes of v is a fall by `threshold`. If there was also no change
        in the last `cooldown` checks, the policy becomes the previous one in the list (higher
        learning rates) at t < `switch` T, else the next one; at an end of the list it does not
        change
    Reference:
        Wu & Liu 2022, arXiv 2210.12936: ChangeLROnPlateau in their code LRBench
    Deviations:
        1. the value is the loss on `val`; the code's default is the training loss;
        2. `switch` is an argument; in the code it is 0.8.
    Cost:
        a forward pass on `val_batches` batches of `val` per check

    Args:
        policies: Policies from high to low learning rates, as objects or as text in LRBench's form.
        start: Index of the first active policy.
        check_every: Steps between checks; 0 means one epoch.
        window: Number of successive changes of the value that make a plateau.
        threshold: Smallest fall of the loss that counts.
        cooldown: Number of checks after a change without another change.
        switch: Share of the run's steps T after which plateaus lower the learning rate.
        val_batches: Batches of `val` per check; at most all of them.

    Raises:
        ValueError: An argument is out of range.

    >>> change = ChangeOnPlateau([Policy("fix", 0.3), Policy("fix", 0.1)], start=1)
    >>> change(StepView(change, 0, total_steps=9, steps_per_epoch=3), change.init())[0]
    0.1
    """

    policies: Sequence[Policy | str]
    start: int = 0
    check_every: int = 0
    window: int = 5
    threshold: float = 0.05
    cooldown: int = 5
    switch: float = 0.8
    val_batches: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", plateaus.as_policies(self.policies))
        refuse_counts(self, 0, "start", "check_every", "cooldown")
        refuse_counts(self, 1, "window", "val_batches")
        if self.start >= len(self.policies):
            raise ValueError(f"start={self.start}; there are {len(self.policies)} policies, from 0")
        if not 0 <= self.switch <= 1:
            raise ValueError(f"switch={self.switch}; a share of the run, in [0, 1], is needed")

    @property
    def needs(self) -> Need:
        """Trials, to measure on `val`; the run length, and that of an epoch if it is the period."""
        return plateaus.needs_of(self.check_every)

    def init(self) -> ChangeState:
        """Return the state before the first step."""
        return ChangeState(self.start)

    def __call__(self, view: StepView, state: ChangeState) -> tuple[float, ChangeState]:
        """Return the learning rate of this step, and the next state."""
        if plateaus.is_check(view, self.check_every):
            state = self._checked(view, state)
        return self._policy(state.policy).at(view.step + 1), state

    def _checked(self, view: StepView, state: ChangeState) -> ChangeState:
        value = view.sandbox.val_loss(self.val_batches)
        values = (*state.values, value)[-self.window - 1 :]
        if state.stays or not plateaus.stalls(values, self.window, self.threshold):
            return state._replace(values=values, stays=max(0, state.stays - 1))
        way = -1 if view.step < self.switch * view.total_steps else 1
        policy = min(max(state.policy + way, 0), len(self.policies) - 1)
        view.sandbox.note(what="change", loss=value, policy=label(self._policy(policy)))
        return ChangeState(policy, values, self.cooldown, state.num_changes + 1)

    def _policy(self, index: int) -> Policy:
        policy = self.policies[index]
        assert isinstance(policy, Policy)  # ensured at construction
        return policy
