"""`ControlledLR`: any controller as a drop-in scheduler for your own PyTorch loops."""

from __future__ import annotations

import math
import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from numbers import Integral
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from meta_lr import callers, checkpoint, protocol
from meta_lr.drop_in import accumulation, advice, hooks, refusals
from meta_lr.drop_in.losses import MOST, NONE_EARLIER, Earlier, Loss, add_up, as_loss, summarise
from meta_lr.optim.groups import Groups, own, refuse_complex
from meta_lr.protocol import Average, Controller, Need
from meta_lr.training.sandbox import Sandbox
from meta_lr.training.step import ask

FORMAT = 1  # of the state dict
PATIENCE = 20  # calls of `step` before the first optimizer step; a GradScaler may skip some

_TENSORS = Need.PARAMS | Need.GRADS | Need.DIRECTION
_EXPERIMENTS = Need.META | Need.TRIALS
_TRAINING = Need.LOSS | _TENSORS | _EXPERIMENTS  # a policy reads none of these


class ControlledLR(LRScheduler):
    """A thin wrapper around one controller, with the interface of torch's schedulers.

    A controller that reads the training (its loss, gradients, ...) is called inside
    `optimizer.step()`, just before the update, once per step that is really taken:

        scheduler.observe(loss)
        optimizer.step()

    It reads the mean of the finite losses observed since the last real step, over all ranks of a
    process group. Without an observation, the group keeps its own learning rate. If no observed
    loss is finite, the last learning rate is kept and `held` increases (but a controller that
    `reads_late` is called). If a closure does not call `observe`, its value is observed.
    `step(loss)`, called after `optimizer.step()` as in torch, is `observe` for the next step;
    `step()` does nothing.

    A policy (a controller that does not read the training) sets its next learning rate in `step()`,
    like torch's schedulers. If the loop calls `observe` instead of `step`, the first `observe`
    after an optimizer step does the same. Each kind of loop therefore works with each kind of
    controller.

    In `SequentialLR`, put this scheduler last, because torch does not notify a scheduler when the
    next one takes over. In `ChainedScheduler`, its learning rate overrides the others.

    A probable mistake gives one warning, with the line of the caller: no loss is observed, or only
    after the step; the optimizer's `step` is never called; the run is longer than `total_steps`;
    a closure's value is the loss of one micro-batch of several; `step` gets an epoch's number.

    Args:
        optimizer: Any torch optimizer that runs its closure once per step, or a wrapper with such
            an optimizer as its `optimizer`.
        controller: Chooses the learning rate of the first parameter group. The other groups keep
            their ratio to it, or have `lr_scale`; both are read when a group is new. A name is
            loaded as a checkpoint, as in `load_pretrained`. The default is "self-tuning", which
            finds its own learning rate and does not use that of the optimizer.
        total_steps: Length of the run in optimizer steps, 0 if unknown. For a policy, it is in
            calls of `step()`; accelerate makes one call per process.
        steps_per_epoch: Optimizer steps in one pass over the training data, 0 if unknown.
        sandbox: For controllers that make experiments.
        last_epoch: As in torch: the number of the last step when resuming, -1 to begin.

    Attributes:
        held: Number of steps that kept the last learning rate because no observed loss was finite.

    Raises:
        TypeError: The optimizer is LBFGS, is no optimizer or does not support hooks; or there is no
            controller.
        ValueError: The controller needs more than is given, was made for another optimizer family,
            or the ratios of the groups are unknown.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        controller: Controller | str | os.PathLike[str] = checkpoint.DEFAULT,
        *,
        total_steps: int = 0,
        steps_per_epoch: int = 0,
        sandbox: Sandbox | None = None,
        last_epoch: int = -1,
    ) -> None:
        self._watched = refusals.watched(optimizer)
        self.controller = controller = refusals.controller(controller)
        # Not public: accelerate stops calling `step` after `total_steps` calls.
        self._total_steps = refusals.length("total_steps", total_steps)
        self.steps_per_epoch = refusals.length("steps_per_epoch", steps_per_epoch)
        self.sandbox = sandbox
        self.held = 0
        self._warned: set[str] = set()  # the kinds of warnings given so far
        self._is_policy = not controller.needs & _TRAINING
        self._reads_loss = bool(controller.needs & Need.LOSS)
        self._reads_tensors = bool(controller.needs & _TENSORS)
        self._reads_late = bool(getattr(controller, "reads_late", False))
        self._end = self._total_steps if controller.needs & Need.HORIZON else math.inf
        self._state = controller.init()
        self._pending: list[Loss] = []
        self._earlier: Earlier = NONE_EARLIER  # also pending
        self._num_observed = 0  # calls of `observe` since the last real step
        self._num_idle: int | None = 0  # calls of `step` before the first optimizer step
        self._versions: list[int] = []  # of the parameters, when the first loss was observed
        self._num_silent = 0  # real steps before the first loss
        self._rate: float | None = None  # the controller's last learning rate
        self._used = False  # whether a real step has used the policy's rate
        self._averages = False  # whether the after-step hook is attached; few controllers need it
        self._average: Average | None = None  # to apply after the step
        self._passes: accumulation.BackwardPasses | None = None
        check = partial(refuse_complex, controller, self._watched)
        self._groups = Groups(self._watched, check)
        refusals.unserved(self._watched, controller, self._served())
        super().__init__(optimizer, last_epoch)
        self._groups.scales()
        hooks.before_steps(self._watched, self, ControlledLR._before_step)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the attributes of this optimizer's hooks; copies do not have them."""
        return {**self.__dict__, "_averages": False, "_passes": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Attach a copy to its own optimizer."""
        self.__dict__.update(state)
        hooks.before_steps(self._watched, self, ControlledLR._before_step)

    def observe(self, loss: float | Tensor) -> None:
        """Pass the loss of the next step, not scaled for accumulation or mixed precision.

        A loss on an accelerator stays there; it is not read before the step.
        """
        if self._num_silent:
            self._was_late()
        self._take(loss)

    def step(self, loss: float | Tensor | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch calls it epoch
        """Observe `loss` for the next step; call this after `optimizer.step()`, as in torch.

        A policy moves to its next learning rate. An int is torch's deprecated `epoch`: a policy
        moves to that epoch. Any other controller counts optimizer steps itself; it uses the number
        only to begin, as older versions of `SequentialLR` require.
        """
        epoch = int(loss) if isinstance(loss, Integral) else None
        if self._is_policy or self._step_count == 0 or (self.last_epoch < 0 and epoch is not None):
            self._move(epoch)
            return
        self._step_count += 1
        if self._num_idle is not None:
            self._wait()
        if epoch is not None:
            self._warn_once("epoch", advice.epoch(self.controller, epoch))
        elif loss is not None:
            self._num_silent = 0  # in this order, the first step never has a loss
            self._take(loss)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rates of the groups; inside `step()`, a policy's next ones."""
        if self._is_policy and self._get_lr_called_within_step:
            scales, self._used = self._groups.scales(), False
            rate = self._ask(None, scales)
            return [rate * scale for scale in scales]
        return _rates(self.optimizer)

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the present learning rates of the groups."""
        return _rates(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return numbers, strings, lists and tensors; for the controller, only its `repr`."""
        return {
            "format": FORMAT,
            "controller": repr(self.controller),
            "last_epoch": self.last_epoch,
            "step_count": self._step_count,
            "lrs": [float(rate) for rate in _rates(self.optimizer)],
            "rate": self._rate,
            "used": self._used,
            "held": self.held,
            "pending": [protocol.as_tensor(loss) for loss in self._pending],
            "earlier": tuple(self._earlier),
            "warned": sorted(self._warned),
            "state": protocol.pack(protocol.clone(self._state)),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned, and write its learning rates again.

        Raises:
            ValueError: It was saved with another controller, other groups or a newer version.
        """
        refusals.state(state_dict, FORMAT, self.controller, self.optimizer)
        self._state = protocol.clone(protocol.unpack(self._state, state_dict["state"]))
        self.last_epoch, self._step_count = state_dict["last_epoch"], state_dict["step_count"]
        self._rate, self._used = state_dict["rate"], state_dict["used"]
        self.held, self._average = state_dict["held"], None
        self._pending = [as_loss(loss) for loss in state_dict["pending"]]
        self._earlier = Earlier(*state_dict.get("earlier", NONE_EARLIER))
        self._num_observed = self._earlier.num_seen + len(self._pending)
        self._warned = set(state_dict.get("warned", ()))
        self._groups.scales()
        protocol.set_rate(self.optimizer, 1.0, state_dict["lrs"])
        self._last_lr = _rates(self.optimizer)

    def _before_step(self, args: hooks.Args, kwargs: hooks.Kwargs) -> hooks.Call | None:
        replaced = hooks.replace_closure(args, kwargs, self._deciding)
        if replaced is None:
            self._decide()
        return replaced

    def _deciding(self, closure: hooks.Closure) -> hooks.Closure:
        """Return a closure that sets the learning rate after its first run; torch then reads it."""
        decided = False

        def run() -> Any:
            nonlocal decided
            num_observed = self._num_observed
            with self._watching():
                loss = closure()
            if not decided:
                if self._reads_loss and loss is not None and self._num_observed == num_observed:
                    self._take(loss)
                    self._warn_of_accumulation()
                self._decide()
                decided = True
            return loss

        return run

    def _watching(self) -> AbstractContextManager[None]:
        """Return a context for a closure; it detects accumulation until the answer is known."""
        if not self._reads_loss or "accumulation" in self._warned:
            return nullcontext()
        if self._passes is None or not self._passes.reached:
            self._unwatch()
            self._passes = accumulation.watch(self._params())
            if self._passes is not None:
                hooks.bind(self, self._passes)
        return nullcontext() if self._passes is None else self._passes.inside()

    def _warn_of_accumulation(self) -> None:
        if self._passes is not None and self._passes.accumulated:
            self._unwatch()
            self._warn_once("accumulation", advice.ACCUMULATION)

    def _unwatch(self) -> None:
        if self._passes is not None:
            self._passes.remove()
            self._passes = None

    def _decide(self) -> None:
        """Set the learning rate of the next step, if this scheduler is active."""
        self._num_idle = None
        if hooks.will_skip(self._watched):
            return
        scales = self._groups.scales()  # read before the learning rate of a new group changes
        if self.last_epoch >= self._end:
            self._warn_of_end()
        if self._is_policy:
            self._used = self.last_epoch >= 0
        elif self.last_epoch >= 0:
            self._follow(scales)
            self.last_epoch += 1
        self._num_observed, self._earlier = 0, NONE_EARLIER
        self._pending.clear()

    def _follow(self, scales: list[float]) -> None:
        loss = None
        if self._reads_loss:
            loss, num_seen = summarise(
                self._pending, self._params, self._earlier, late=self._reads_late
            )
            if num_seen == 0:
                self._count_silence()
                return
            self.held += loss is None
        if loss is not None or not self._reads_loss:
            self._ask(loss, scales)
        elif self._rate is not None:
            protocol.set_rate(self.optimizer, self._rate, scales)

    def _ask(self, loss: Loss | None, scales: list[float]) -> float:
        """Return the controller's learning rate of step `last_epoch`; step 0 uses a new state."""
        if self._reads_tensors:
            hooks.unscale(self._watched)
        self._rate, self._average, self._state = ask(
            self.controller,
            self.controller.init() if self.last_epoch == 0 else self._state,
            self._watched,
            self.last_epoch,
            scales=scales,
            loss=loss,
            params=self._params() if self._reads_tensors else (),
            total_steps=self._total_steps,
            steps_per_epoch=self.steps_per_epoch,
            sandbox=self.sandbox,
        )
        if self._average is not None and not self._averages:
            self._averages = True
            hooks.after_steps(self._watched, self, ControlledLR._after_step)
        return self._rate

    def _after_step(self, args: hooks.Args, kwargs: hooks.Kwargs) -> None:
        if self._average is not None:
            protocol.apply_average(self._params(), self._average)
            self._average = None

    def _take(self, loss: float | Tensor) -> None:
        """Count an observation; keep its loss, or move a policy if its learning rate was used."""
        self._num_observed += 1
        if self._num_idle is not None:
            self._watch_for_other_steps()
        if self._reads_loss:
            self._pending.append(as_loss(loss))
        elif self._is_policy and self._used:
            self._move(None)
        if self._num_observed % MOST == 0:
            self._fold()

    def _watch_for_other_steps(self) -> None:
        """Before the first step, warn if the parameters change although no step was seen."""
        if self._num_observed == 1:
            self._versions = [p._version for p in self._params()]
        elif self._num_observed == PATIENCE:
            versions, self._versions = self._versions, []
            if versions and versions != [p._version for p in self._params()]:
                calls = f"observe() {PATIENCE} times, and parameters that changed,"
                self._warn_once("no step", advice.no_step(self._watched, calls))

    def _move(self, epoch: int | None) -> None:
        """Take torch's own step; its warnings (of the order, of `epoch`) name the caller's line."""
        if self._step_count != 1 and epoch is None:
            super().step()
            return
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            super().step(epoch)
        for warning in caught:
            callers.warn(str(warning.message))

    def _fold(self) -> None:
        self._warn_once("no step", advice.no_step(self._watched, f"observe() {MOST} times"))
        if self._reads_loss:
            self._earlier = add_up(self._pending, self._earlier)
            self._pending.clear()

    def _wait(self) -> None:
        """Count a call of `step` before the first optimizer step."""
        self._num_idle = (self._num_idle or 0) + 1
        if self._num_idle == PATIENCE:
            self._warn_once("no step", advice.no_step(self._watched, f"step() {PATIENCE} times"))

    def _count_silence(self) -> None:
        """Count a step without a loss before the first loss; `step(loss)` always causes one."""
        if self._rate is None:
            self._num_silent += 1
            if self._num_silent == 2:
                self._warn_once("silent", advice.silent(self.controller))

    def _was_late(self) -> None:
        if self._num_silent == 1:
            self._warn_once("silent", advice.LATE)
        self._num_silent = 0

    def _warn_of_end(self) -> None:
        total, self._end = self._total_steps, math.inf
        self._warn_once(f"beyond {total}", advice.beyond(self.controller, self.last_epoch, total))

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            callers.warn(message)

    def _params(self) -> list[Tensor]:
        return protocol.params_of(self.optimizer)

    def _served(self) -> Need:
        served = ~(Need.HORIZON | Need.EPOCHS | _EXPERIMENTS)
        served |= Need.HORIZON if self._total_steps else Need.NOTHING
        served |= Need.EPOCHS if self.steps_per_epoch else Need.NOTHING
        return served | (Need.NOTHING if self.sandbox is None else _EXPERIMENTS)


def _rates(optimizer: Optimizer) -> list[float | Tensor]:
    return [own(group["lr"]) for group in optimizer.param_groups]
