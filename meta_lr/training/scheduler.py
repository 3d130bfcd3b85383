"""`ControlledLR`: any controller as a drop-in scheduler for people's own PyTorch loops."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from meta_lr import protocol, rules
from meta_lr.protocol import Average, Controller, Need, StepView
from meta_lr.training import hooks
from meta_lr.training.losses import Loss, as_loss, num_ranks, summarise
from meta_lr.training.sandbox import Sandbox

FORMAT = 1  # of the state dict

_TENSORS = Need.PARAMS | Need.GRADS | Need.DIRECTION
_EXPERIMENTS = Need.META | Need.TRIALS
_TRAINING = Need.LOSS | _TENSORS | _EXPERIMENTS  # what a policy reads nothing of


class ControlledLR(LRScheduler):
    """A thin shell around one controller, with the interface of torch's schedulers.

    A controller that reads the training (its loss, gradients, ...) is asked inside
    `optimizer.step()`, just before the update, once per step that really happens:

        scheduler.observe(loss)
        optimizer.step()

    It sees the mean of the finite losses observed since the last real step, over all ranks of a
    process group. Without an observation the group's own rate stands; if none is finite, the last
    rate stands and `held` rises. A closure's value is observed if the closure itself observes
    nothing. `step(loss)`, in torch's place, is `observe` for the next step; `step()` does nothing.

    A policy (a controller that reads nothing of the training) sets its next rate in `step()`, as
    torch's schedulers do. Where the loop calls `observe` in place of `step`, the first `observe`
    after an optimizer step does the same, so either loop works with either kind.

    In `SequentialLR` put this scheduler last: torch does not tell a scheduler that its turn is
    over. In `ChainedScheduler` it has the last word.

    Args:
        optimizer: Any optimizer of torch's kind that runs its closure once per step.
        controller: Chooses the rate of the first parameter group; the other groups keep their
            ratio to it, or have `lr_scale`. Both are read when a group is first seen.
        total_steps: Length of the run in optimizer steps, 0 if unknown.
        steps_per_epoch: Optimizer steps in one pass over the training data, 0 if unknown.
        sandbox: For controllers that make experiments.
        last_epoch: As in torch: the number of the last step when resuming, -1 to begin.

    Attributes:
        held: How many steps kept the last rate because no observed loss was finite.

    Raises:
        TypeError: The optimizer is LBFGS, or is none.
        ValueError: The controller needs what is not given, was made for another optimizer family,
            or the ratios of the groups are unknown.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        controller: Controller,
        *,
        total_steps: int = 0,
        steps_per_epoch: int = 0,
        sandbox: Sandbox | None = None,
        last_epoch: int = -1,
    ) -> None:
        self.controller, self.sandbox = controller, sandbox
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.held = 0
        self._warned = False
        self._is_policy = not controller.needs & _TRAINING
        self._reads_loss = bool(controller.needs & Need.LOSS)
        self._reads_tensors = bool(controller.needs & _TENSORS)
        self._state = controller.init()
        self._pending: list[Loss] = []
        self._rate: float | None = None  # the controller's last
        self._used = False  # a policy's rate has served a real step
        self._averages = False  # the hook after steps is attached: few controllers need it
        self._average: Average | None = None  # to apply after the step
        self._scales: list[float] = []
        self._refuse(optimizer)
        super().__init__(optimizer, last_epoch)
        self._read_scales()
        hooks.before_steps(optimizer, self, ControlledLR._before_step)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Attach a copy to its own optimizer: copies of an optimizer come without hooks."""
        self.__dict__.update(state)
        self._averages = False
        hooks.before_steps(self.optimizer, self, ControlledLR._before_step)

    def observe(self, loss: float | Tensor) -> None:
        """Tell the loss of the coming step, not yet scaled for accumulation or mixed precision.

        On an accelerator it stays there, and is not read before the step.
        """
        if self._is_policy:
            if self._used:
                super().step()
        elif self._reads_loss:
            self._pending.append(as_loss(loss))

    def step(self, loss: float | Tensor | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch calls it epoch
        """In torch's place, after `optimizer.step()`: observe `loss` for the next step.

        A policy moves to its next rate. An int is torch's deprecated `epoch`: the count restarts
        there, as `SequentialLR` asks for in older versions.
        """
        if isinstance(loss, int):
            super().step(loss)
        elif self._is_policy or self._step_count == 0:
            super().step()
        else:
            self._step_count += 1
            if loss is not None:
                self.observe(loss)
            elif self._reads_loss and self._rate is None and self.last_epoch > 1:
                self._warn_of_silence()

    def get_lr(self) -> list[float | Tensor]:
        """Return the rates of the groups; inside `step()`, a policy's next ones."""
        if self._is_policy and self._get_lr_called_within_step:
            self._rate, self._used = self._ask(None), False
            return [self._rate * scale for scale in self._read_scales()]
        return _rates(self.optimizer)

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the rates of the groups as they are now."""
        return _rates(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return numbers, strings, lists and tensors; of the controller only its `repr`."""
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
            "state": protocol.pack(protocol.clone(self._state)),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, and write the rates of that moment again.

        Raises:
            ValueError: It was saved with another controller, other groups or a newer version.
        """
        self._refuse_state(state_dict)
        self._state = protocol.clone(protocol.unpack(self._state, state_dict["state"]))
        self.last_epoch, self._step_count = state_dict["last_epoch"], state_dict["step_count"]
        self._rate, self._used = state_dict["rate"], state_dict["used"]
        self.held, self._pending = (
            state_dict["held"],
            [as_loss(loss) for loss in state_dict["pending"]],
        )
        self._average = None
        protocol.set_rate(self.optimizer, 1.0, state_dict["lrs"])
        self._last_lr = _rates(self.optimizer)

    def _before_step(self, args: hooks.Args, kwargs: hooks.Kwargs) -> hooks.Call | None:
        replaced = hooks.replace_closure(args, kwargs, self._deciding)
        if replaced is None:
            self._decide()
        return replaced

    def _deciding(self, closure: hooks.Closure) -> hooks.Closure:
        """Return a closure that decides on the rate after its first run; torch reads it then."""
        decided = False

        def run() -> Any:
            nonlocal decided
            num_pending = len(self._pending)
            loss = closure()
            if not decided:
                if self._reads_loss and loss is not None and len(self._pending) == num_pending:
                    self._pending.append(as_loss(loss))
                self._decide()
                decided = True
            return loss

        return run

    def _decide(self) -> None:
        """Set the rate of the step that is about to happen, if it is this scheduler's turn."""
        if hooks.will_skip(self.optimizer):
            return
        if self._is_policy:
            self._used = self.last_epoch >= 0
            return
        if self.last_epoch >= 0:
            self._follow()
            self.last_epoch += 1
        self._pending.clear()

    def _follow(self) -> None:
        loss = None
        if self._reads_loss:
            loss, num_seen = summarise(self._pending, self._params)
            if num_seen == 0:
                return
            self.held += loss is None
        if loss is not None or not self._reads_loss:
            self._rate = self._ask(loss)
        if self._rate is not None:
            protocol.set_rate(self.optimizer, self._rate, self._read_scales())

    def _ask(self, loss: Loss | None) -> float:
        """Return the controller's rate for step `last_epoch`; its state begins anew at 0."""
        if self.sandbox is not None:
            self.sandbox.at(self.last_epoch)
        state = self.controller.init() if self.last_epoch == 0 else self._state
        with torch.no_grad(), nullcontext() if self.sandbox is None else self.sandbox.timed():
            rate, state = self.controller(self._view(loss), state)
        number = float(rate.rate if isinstance(rate, Average) else rate)
        protocol.check_rate(self.controller, self.last_epoch, number)
        self._state, self._average = state, None
        if isinstance(rate, Average):
            self._restart_from(rate)
        return number

    def _restart_from(self, average: Average) -> None:
        self._average = average
        if not self._averages:
            self._averages = True
            hooks.after_steps(self.optimizer, self, ControlledLR._after_step)

    def _after_step(self, args: hooks.Args, kwargs: hooks.Kwargs) -> None:
        if self._average is not None:
            protocol.apply_average(self._params(), self._average)
            self._average = None

    def _warn_of_silence(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{type(self.controller).__name__} reads the loss, but none was observed so far: "
                "the rate stands; call scheduler.observe(loss) before optimizer.step()",
                stacklevel=3,
            )

    def _view(self, loss: Loss | None) -> StepView:
        optimizer, params = self.optimizer, []
        if self._reads_tensors:
            hooks.unscale(optimizer)
            params = self._params()
        return StepView(
            self.controller,
            self.last_epoch,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            loss=loss,
            params=params,
            grads=rules.gradients(params),
            direction=lambda: rules.direction(optimizer),
            sandbox=self.sandbox,
        )

    def _params(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _read_scales(self) -> list[float]:
        groups = self.optimizer.param_groups
        if len(groups) != len(self._scales):
            for group, rate in zip(groups, _rates(self.optimizer), strict=True):
                group.setdefault("initial_lr", rate)
            self._scales = protocol.group_scales(self.optimizer)
        return self._scales

    def _refuse(self, optimizer: Optimizer) -> None:
        if isinstance(optimizer, LBFGS):
            raise TypeError(
                "LBFGS evaluates its closure many times per step, so a step has no one loss; "
                "use another optimizer"
            )
        served = ~(Need.HORIZON | Need.EPOCHS | _EXPERIMENTS)
        served |= Need.HORIZON if self.total_steps > 0 else Need.NOTHING
        served |= Need.EPOCHS if self.steps_per_epoch > 0 else Need.NOTHING
        served |= Need.NOTHING if self.sandbox is None else _EXPERIMENTS
        protocol.refuse_unserved(self.controller, served)
        if self.controller.needs & _EXPERIMENTS and num_ranks() > 1:
            raise ValueError(
                f"{type(self.controller).__name__} makes experiments, which differ between the "
                f"{num_ranks()} ranks of the process group; run it in one process"
            )
        rules.refuse_other_family(self.controller, optimizer)
        protocol.refuse_complex(self.controller, optimizer)

    def _refuse_state(self, state_dict: Mapping[str, Any]) -> None:
        if state_dict.get("format") != FORMAT:
            raise ValueError(
                f"the state has format {state_dict.get('format')}, but this version reads "
                f"{FORMAT}; it is from a newer meta_lr, or from another scheduler"
            )
        if state_dict["controller"] != repr(self.controller):
            raise ValueError(
                f"the state was saved with {state_dict['controller']}, but this scheduler has "
                f"{self.controller!r}; build it with the controller that was saved"
            )
        if len(state_dict["lrs"]) != len(self.optimizer.param_groups):
            raise ValueError(
                f"the state was saved with {len(state_dict['lrs'])} parameter groups, but the "
                f"optimizer has {len(self.optimizer.param_groups)}; add the groups before loading"
            )


def _rates(optimizer: Optimizer) -> list[float | Tensor]:
    rates = (group["lr"] for group in optimizer.param_groups)
    return [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]
