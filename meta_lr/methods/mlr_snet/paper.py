"""MLR-SNet with the training procedure of its authors' code, including its special details."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet, OnlineState
from meta_lr.protocol import Need, StepView
from meta_lr.tasks.base import Batch, Split
from meta_lr.training.sandbox import Sandbox

_FORMULA = InitialLossGamma(num_classes=10)


@dataclass(frozen=True)
class PaperMLRSNet(OnlineMLRSNet):
    """MLR-SNet with the special details of its authors' code, each as an option.

    Update:
        as `OnlineMLRSNet`, with K = 1
    Reference:
        Shu, Zhu, Zhao, Meng & Xu (2020), arXiv 2007.14546, and its published code
    Deviations:
        Meta data overlap the training data only if the task's `meta_overlap` is set; in the
        published experiments nearly all of them do.
    Cost:
        per update one step on a meta batch; one pass of the network per step

    Args:
        net: This argument and those that are not listed are described in `OnlineMLRSNet`.
        gamma: As published, `InitialLossGamma` with the number of classes.
        period: T, in steps; the authors' 300 gives one update in each of their epochs of 383 steps.
        snapshots: As published, after epochs 1, 100 and 200 of 200.
        double_tick: Whether an update first advances the memory on its own loss, with the old phi.
            The memory then reads that loss twice.
        counts: Where the periods are counted: in each "epoch" separately, as published, or over the
            whole "run". With "epoch", steps after the last whole period of an epoch have no
            update.
        fires: Whether the update is at the "end" of a period (its last step), as in the published
            image experiments, or at its "start", as in their language experiments.
        meta_batches: Whether the meta batches are read in "passes" over the split, each in a new
            order, as published, or each one is "drawn" from the whole split.

    Raises:
        ValueError: An option is out of range.

    >>> from meta_lr.methods.networks.lstm import LSTM
    >>> PaperMLRSNet(LSTM(hidden=4), period=3).num_updates(steps=20, steps_per_epoch=10)
    6
    """

    gamma: float | InitialLossGamma = _FORMULA
    period: int = 10
    snapshots: tuple[float, ...] = (0.005, 0.5, 1.0)
    double_tick: bool = True
    counts: Literal["run", "epoch"] = "epoch"
    fires: Literal["end", "start"] = "end"
    meta_batches: Literal["drawn", "passes"] = "passes"

    def __post_init__(self) -> None:
        if self.counts not in ("run", "epoch") or self.fires not in ("end", "start"):
            raise ValueError(
                f"PaperMLRSNet got counts={self.counts!r}, fires={self.fires!r}; "
                "counts is 'run' or 'epoch', fires is 'end' or 'start'"
            )
        if self.meta_batches not in ("drawn", "passes"):
            raise ValueError(f"meta_batches is {self.meta_batches!r}; it is 'drawn' or 'passes'")
        super().__post_init__()

    @cached_property
    def _needs(self) -> Need:
        trigger = Need.EPOCHS if self.counts == "epoch" else Need.NOTHING
        return trigger | super()._needs

    def num_updates(self, steps: int, steps_per_epoch: int) -> int:
        """Return the number of updates of phi in a run of `steps` steps."""
        ahead = self.period - 1 if self.fires == "start" else 0
        if self.counts == "run":
            return (steps + ahead) // self.period
        epochs, rest = divmod(steps, steps_per_epoch)
        each = (steps_per_epoch + ahead) // self.period
        return epochs * each + (rest + ahead) // self.period

    def _begin(self, view: StepView, state: OnlineState, loss: float) -> OnlineState:
        if (self.counts, self.fires) == ("epoch", "end") and view.steps_per_epoch < self.period:
            raise ValueError(
                f"the network would never be updated: period={self.period} is longer than an epoch "
                f"of {view.steps_per_epoch} steps, and counts='epoch' begins anew in each; make "
                "period smaller, or choose counts='run'"
            )
        return super()._begin(view, state, loss)

    def _is_due(self, view: StepView) -> bool:
        step = view.step % view.steps_per_epoch if self.counts == "epoch" else view.step
        return step % self.period == (self.period - 1 if self.fires == "end" else 0)

    def _learn(self, view: StepView, state: OnlineState) -> OnlineState:
        passes = _in_passes(view.sandbox, int(state.updates))
        with passes if self.meta_batches == "passes" else nullcontext():
            learned = super()._learn(view, state)
        if not self.double_tick:
            return learned
        return learned._replace(memory=self._output(view, state)[1])  # with the old phi


@contextmanager
def _in_passes(sandbox: Sandbox, index: int) -> Iterator[None]:
    """Let meta losses use the index-th batch of passes over the split."""
    own = sandbox.batch

    def batch(split: Split, step: int, draw: int | None) -> Batch:
        return own(split, index, None) if split == "meta" else own(split, step, draw)

    sandbox.batch = batch
    try:
        yield
    finally:
        sandbox.batch = own
