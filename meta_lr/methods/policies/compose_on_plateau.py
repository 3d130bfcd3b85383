"""A composite policy that is built during the run: at each plateau, trials choose the next part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meta_lr.methods.checks import refuse_counts
from meta_lr.methods.policies import plateaus
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.text import label
from meta_lr.methods.wrappers import Composite
from meta_lr.protocol import Need, StepView


class ComposeState(NamedTuple):
    """The composite so far, and the losses on `val` in its last part."""

    starts: tuple[int, ...] = ()  # of each part, in steps; the first is 0
    parts: tuple[int, ...] = ()  # indices of candidates
    best: float = math.inf  # the lowest loss on `val` in this part
    stale: int = 0  # checks since then
    num_searches: int = 0


@dataclass(frozen=True)
class ComposeOnPlateau:
    """Run a trial of each candidate at the start and at each plateau; use the best candidate.

    Update:
        rate(t) = candidate_i(t - s_i), for s_i <= t < s_(i+1), as in a composite;
        after every `check_every` steps v, the loss on `val`, is measured. v is a new best if it is
        below (1 - threshold) times the best v of this part. It is a plateau if the last `patience`
        checks gave no new best. At a plateau, and at t = 0, each candidate and the present policy
        (continued) train a copy of the run for `trial_steps` steps, all from the same point and on
        the same batches; the one with the lowest loss on `val` is used from then on
    Reference:
        Wu & Liu 2022, arXiv 2210.12936, composes policies by dynamic tuning; their code has no
        search
    Deviations:
        the rule for plateaus and the trials are ours
    Cost:
        per check a forward pass on `val_batches` batches of `val`; per search, for each candidate,
        `trial_steps` steps and such a pass

    Args:
        candidates: Policies, as objects or as text in LRBench's form.
        trial_steps: Length of a trial, in steps.
        check_every: Steps between checks; 0 means one epoch.
        patience: Number of checks without a new lowest loss that make a plateau.
        threshold: Smallest relative fall of the loss that counts.
        val_batches: Batches of `val` per measurement; at most all of them.

    Raises:
        ValueError: An argument is out of range.

    >>> composed = ComposeOnPlateau([Policy("fix", 0.3), Policy("fix", 0.1)])
    >>> composed.composite(ComposeState((0, 40), (0, 1))).boundaries
    (40,)
    """

    candidates: Sequence[Policy | str]
    trial_steps: int = 20
    check_every: int = 0
    patience: int = 3
    threshold: float = 0.01
    val_batches: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidates", plateaus.as_policies(self.candidates))
        refuse_counts(self, 0, "check_every")
        refuse_counts(self, 1, "trial_steps", "patience", "val_batches")
        if not 0 <= self.threshold < 1:
            raise ValueError(
                f"threshold={self.threshold}; a share of the loss, in [0, 1), is needed"
            )

    @property
    def needs(self) -> Need:
        """Trials; the run length, and that of an epoch if it is the period."""
        return plateaus.needs_of(self.check_every)

    def init(self) -> ComposeState:
        """Return the state before the first step."""
        return ComposeState()

    def __call__(self, view: StepView, state: ComposeState) -> tuple[float, ComposeState]:
        """Return the learning rate of this step, and the next state."""
        if view.step == 0:
            state = self._searched(view, state)
        elif plateaus.is_check(view, self.check_every):
            state = self._checked(view, state)
        return self._policy(state.parts[-1]).at(view.step - state.starts[-1]), state

    def composite(self, state: ComposeState) -> Policy | Composite:
        """Return the policy of a run's last state: its learning rates, without the search."""
        parts = [self._policy(index) for index in state.parts]
        return parts[0] if len(parts) == 1 else Composite(state.starts[1:], parts)

    def _checked(self, view: StepView, state: ComposeState) -> ComposeState:
        value = view.sandbox.val_loss(self.val_batches)
        if value < state.best - self.threshold * abs(state.best) or math.isinf(state.best):
            return state._replace(best=value, stale=0)
        state = state._replace(stale=state.stale + 1)
        return self._searched(view, state) if state.stale >= self.patience else state

    def _searched(self, view: StepView, state: ComposeState) -> ComposeState:
        """Return the state with the best candidate as the next part; it may be the present one."""
        state = state._replace(best=math.inf, stale=0, num_searches=state.num_searches + 1)
        losses = [self._trial(view, index, view.step) for index in range(len(self.candidates))]
        best = min(range(len(losses)), key=losses.__getitem__)
        if state.parts and self._trial(view, state.parts[-1], state.starts[-1]) <= losses[best]:
            view.sandbox.note(what="choice", policy=None)
            return state
        view.sandbox.note(what="choice", policy=label(self._policy(best)))
        return state._replace(starts=(*state.starts, view.step), parts=(*state.parts, best))

    def _trial(self, view: StepView, index: int, start: int) -> float:
        """Return the loss on `val` after a trial of a candidate that counts steps from `start`."""
        policy, steps = self._policy(index), min(self.trial_steps, view.total_steps - view.step)
        with view.sandbox.trial() as trial:
            origin, loss = trial.fingerprint(), math.inf
            rates = [policy.at(view.step - start + step) for step in range(steps)]
            if all(math.isfinite(float(trial.step(rate))) for rate in rates):
                loss = trial.val_loss(self.val_batches)
        loss = loss if math.isfinite(loss) else math.inf
        facts = {"policy": label(policy), "since": start, "start": origin, "loss": loss}
        view.sandbox.note(what="trial", **facts)
        return loss

    def _policy(self, index: int) -> Policy:
        policy = self.candidates[index]
        assert isinstance(policy, Policy)
        return policy
