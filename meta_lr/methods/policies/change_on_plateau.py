"""ChangeLROnPlateau: a plateau moves on in a list of policies, to higher rates or to lower ones."""

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
    """Which policy steers, what was measured, and for how many checks it stays."""

    policy: int
    values: tuple[float, ...] = ()
    stays: int = 0
    num_changes: int = 0


@dataclass(frozen=True)
class ChangeOnPlateau:
    """At a plateau the policy changes: up to higher rates, and near the end of the run down.

    Update:
        rate(t) = policy(t + 1), where a change does not restart a policy's count;
        after every `check_every` steps v, the loss on `val`, is measured. It is at a plateau if
        none of the last `window` steps of v has lowered it by `threshold`. Then, unless there was a
        change in the last `cooldown` checks, the policy becomes the one before in the list (higher
        rates) at t < `switch` T, else the one after; the ends of the list hold
    Reference:
        Wu & Liu 2022, arXiv 2210.12936: ChangeLROnPlateau in their code LRBench
    Deviations:
        1. the value is the loss on `val`, where the code's default is the training loss;
        2. `switch` is an argument, in the code 0.8.
    Cost:
        a forward pass on `val_batches` batches of `val` per check

    Args:
        policies: From high rates to low, as policies or as text in LRBench's form.
        start: Index of the one that begins.
        check_every: Steps between checks; 0 is an epoch.
        window: Steps of the value that a plateau takes.
        threshold: Of the loss.
        cooldown: Checks without a change after one.
        switch: Share of the run's steps T.
        val_batches: Batches of `val` per check; no more than there are.

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
        """Trials, to measure on `val`; the run's length, and an epoch's if it is the period."""
        return plateaus.needs_of(self.check_every)

    def init(self) -> ChangeState:
        """Return the state before the first step."""
        return ChangeState(self.start)

    def __call__(self, view: StepView, state: ChangeState) -> tuple[float, ChangeState]:
        """Return the rate of this step, and the next state."""
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
        assert isinstance(policy, Policy)  # made so at construction
        return policy
