"""The controller protocol: a controller maps a view of a training step to its learning rate.

Every method is called at the same point: after the gradient of the current batch is computed and
before the optimizer steps. A controller is therefore a function `(view, state) -> (rate, state)`.
It declares in `needs` which parts of the view it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from enum import Flag, auto
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from meta_lr import host

if TYPE_CHECKING:
    from meta_lr.training.sandbox import Sandbox

HIGHEST = 1e30  # learning rate; float32 holds it, and ten times as much


class Need(Flag):
    """What a controller reads beyond the step index, one bit each."""

    NOTHING = 0
    LOSS = auto()  # view.loss
    PARAMS = auto()  # view.params
    GRADS = auto()  # view.grads
    DIRECTION = auto()  # view.direction
    META = auto()  # view.sandbox: losses on other batches and at other weights
    TRIALS = auto()  # view.sandbox: training steps on a private copy
    HORIZON = auto()  # view.total_steps
    EPOCHS = auto()  # view.steps_per_epoch


class Average(NamedTuple):
    """A learning rate and a weight average to restart from: `p <- weight * p + rest` follows."""

    rate: float
    weight: float
    rest: tuple[Tensor, ...]  # shaped like the parameters, in the optimizer's group order


class NoState(NamedTuple):
    """The state of a controller without state."""


Rate = float | Tensor | Average
State = TypeVar("State")  # of a controller


def lr_of(rate: Rate) -> float | Tensor:
    """Return only the learning rate, without an average to restart from."""
    return rate.rate if isinstance(rate, Average) else rate


# Which bits of `Need` give access to which field of a view. They are plain ints for speed: a view
# is made at every step.
_FIELDS = tuple(
    (need.value, name)
    for need, name in (
        (Need.HORIZON, "total_steps"),
        (Need.EPOCHS, "steps_per_epoch"),
        (Need.LOSS, "_loss"),
        (Need.PARAMS, "params"),
        (Need.GRADS, "grads"),
        (Need.DIRECTION, "_direction"),
        (Need.META | Need.TRIALS, "sandbox"),
        (Need.DIRECTION, "_scales"),
    )
)


@lru_cache
def _opened(needs: int) -> tuple[tuple[int, str], ...]:
    """Return the positions in `_FIELDS` that `needs` gives access to, and their names."""
    return tuple((i, name) for i, (bits, name) in enumerate(_FIELDS) if needs & bits)


class HostLoss(NamedTuple):
    """A scalar loss () in the host's memory, kept as a number: much cheaper than a tensor."""

    number: float
    dtype: torch.dtype

    def item(self) -> float:
        """Return the number."""
        return self.number

    def tensor(self) -> Tensor:
        """Return the loss as a tensor ()."""
        return torch.tensor(self.number, dtype=self.dtype)


def as_tensor(loss: Tensor | HostLoss) -> Tensor:
    """Return `loss` as a tensor ()."""
    return loss.tensor() if isinstance(loss, HostLoss) else loss


class StepView:
    """What a controller may read at one step; reading an undeclared field raises.

    Attributes:
        step: Optimizer steps taken so far, from 0.
        total_steps: Length of the run in steps (HORIZON).
        steps_per_epoch: Steps in one pass over the training data (EPOCHS).
        loss: Loss () of the current batch at the current parameters; `loss_item()` returns it as
            a number, which is cheaper (LOSS).
        params: Live parameters in the optimizer's group order; clone what you keep (PARAMS).
        grads: Their live gradients, in the same order (GRADS).
        direction: What the optimizer would subtract per unit of learning rate, in the same order;
            `update` is the direction times the scale of each parameter's group (DIRECTION).
        sandbox: Experiments that do not change the run (META or TRIALS).
    """

    __slots__ = (
        "_controller",
        "_direction",
        "_loss",
        "_scales",
        "grads",
        "params",
        "sandbox",
        "step",
        "steps_per_epoch",
        "total_steps",
    )
    step: int
    total_steps: int
    steps_per_epoch: int
    params: Sequence[Tensor]
    grads: Sequence[Tensor]
    sandbox: Sandbox

    def __init__(
        self,
        controller: Controller,
        step: int,
        *,
        total_steps: int = 0,
        steps_per_epoch: int = 0,
        loss: Tensor | HostLoss | None = None,
        params: Sequence[Tensor] | None = None,
        grads: Sequence[Tensor] | None = None,
        direction: Callable[[], Sequence[Tensor]] | None = None,
        sandbox: Sandbox | None = None,
        scales: Callable[[], Sequence[float]] | None = None,
    ) -> None:
        """Store only the fields that `controller` declares."""
        self._controller = controller
        self.step = step
        offered = (total_steps, steps_per_epoch, loss, params, grads, direction, sandbox, scales)
        for position, name in _opened(controller.needs.value):
            setattr(self, name, offered[position])

    @property
    def loss(self) -> Tensor:
        """The loss as a tensor, differentiable inside an unroll."""
        return as_tensor(self._loss)

    def loss_item(self) -> float:
        """Return the loss as a number; on an accelerator this waits until it is known."""
        loss = self._loss
        if isinstance(loss, HostLoss) or host.is_near(loss):
            return loss.item()
        return float(host.receive(loss))  # pyright: ignore[reportArgumentType]

    @property
    def direction(self) -> Sequence[Tensor]:
        """The optimizer's direction; computed when it is read."""
        return self._direction()

    @property
    def update(self) -> Sequence[Tensor]:
        """The direction, each tensor times the scale of its group; computed when it is read."""
        scales = [1.0 for _ in self.params] if self._scales is None else self._scales()
        return [d if s == 1.0 else d * s for d, s in zip(self._direction(), scales, strict=True)]

    def __getattr__(self, name: str) -> Any:
        if name not in self.__slots__:
            raise AttributeError(f"a StepView has no {name}")
        raise UndeclaredError(
            f"{type(self._controller).__name__} reads {name.lstrip('_')} "
            f"but declares {need_names(self._controller.needs)}"
        )

    def seen_by(self, controller: Controller) -> StepView:
        """Return this view for another controller: the fields that both controllers declare."""
        view = object.__new__(StepView)
        view._controller, view.step = controller, self.step
        for _, name in _opened(controller.needs.value):
            if _has(self, name):
                setattr(view, name, getattr(self, name))
        return view

    def within(self, controller: Controller, start: int, end: int) -> StepView:
        """Return this view for a controller that is used only in the steps `start` to `end`."""
        view = self.seen_by(controller)
        view.step = self.step - start
        if controller.needs & Need.HORIZON:
            view.total_steps = end - start
        return view

    def later(
        self,
        controller: Controller,
        steps: int,
        *,
        loss: Tensor,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        direction: Callable[[], Sequence[Tensor]],
    ) -> StepView:
        """Return the view of a step that is `steps` ahead, in a trial or an unroll."""
        view = self.seen_by(controller)
        view.step = self.step + steps
        values = {"_loss": loss, "params": params, "grads": grads, "_direction": direction}
        for name, value in values.items():
            if _has(view, name):
                setattr(view, name, value)
        return view


def _has(view: StepView, name: str) -> bool:
    try:
        object.__getattribute__(view, name)
    except AttributeError:
        return False
    return True


class UndeclaredError(RuntimeError):
    """A controller read a field that its `needs` do not declare."""


class DivergedError(RuntimeError):
    """A controller decided that the run has diverged, at a finite loss; the loop ends the run."""


class Controller(Protocol[State]):
    """A method that chooses a learning rate: a frozen dataclass of hyper-parameters.

    `Controller[AutoLRSState]` has a state of this type; `Controller` has a state of any type.

    Everything that changes during a run is in `state`: one flat NamedTuple of None, numbers,
    strings, tensors and plain tuples of these. A controller owns its state and may update its own
    tensors in place; clone the state first if you need the old one. A controller never changes
    the model, the optimizer or the global random state. Fields of the state named `num_...` are
    counts, for the run's record and the report's table of events.

    Some controllers give learning rates that are valid for one optimizer family only. They may
    name it in an attribute `family` (see `meta_lr.optim.rules.family`); any other family is then
    refused.

    A controller may have the attribute `reads_late = True` if it reads a loss only one step later
    and accepts any value of it. `ControlledLR` then never waits for a loss on an accelerator, and
    also passes on a loss that is not finite.
    """

    @property
    def needs(self) -> Need:
        """The fields of the view that this instance reads."""
        ...

    def init(self) -> State:
        """Return the state before the first step."""
        ...

    def __call__(self, view: StepView, state: State) -> tuple[Rate, State]:
        """Return this step's learning rate for the first parameter group, and the next state."""
        ...


def need_names(needs: Need) -> str:
    """Return the names of the bits in `needs`, such as "LOSS, HORIZON"."""
    return ", ".join(str(n.name) for n in Need if n & needs) or "NOTHING"


_SANDBOX = "sandbox=meta_lr.Sandbox(model, optimizer, loss_fn, batch)"
_REMEDY = {  # what may be missing -> the argument that provides it; the other needs are always met
    Need.META: ("losses on other batches", _SANDBOX),
    Need.TRIALS: ("training steps on a copy", _SANDBOX),
    Need.HORIZON: ("the length of the run", "total_steps= (optimizer steps)"),
    Need.EPOCHS: ("the length of an epoch", "steps_per_epoch= (optimizer steps)"),
}


def refuse_unserved(controller: Controller, served: Need) -> None:
    """Raise a ValueError if `controller` needs more than `served`; it says what to pass."""
    missing = controller.needs & ~served
    if missing:
        whats, arguments = zip(*(_REMEDY[n] for n in Need if n & missing), strict=True)
        raise ValueError(
            f"{type(controller).__name__} needs {' and '.join(whats)}: "
            f"pass {' and '.join(dict.fromkeys(arguments))} [{need_names(missing)}]"
        )


def check_rate(controller: Controller, step: int, rate: float) -> float:
    """Return `rate`, or raise a ValueError if it is negative, not finite or above `HIGHEST`."""
    name = type(controller).__name__
    if not 0.0 <= rate < math.inf:
        need = "it must be finite and not negative"
        raise ValueError(f"{name} returned the learning rate {rate} at step {step}; {need}")
    if rate > HIGHEST:
        most = f"at most {HIGHEST:g} is possible"
        raise ValueError(f"{name} returned the learning rate {rate:g} at step {step}; {most}")
    return rate


def group_scales(optimizer: Optimizer) -> list[float]:
    """Return the factor of the controller's learning rate for each parameter group.

    It is `group["lr_scale"]` if that is set. Otherwise it is the group's initial learning rate
    divided by that of the first group.

    Raises:
        ValueError: A group has no `lr_scale` and the first group's initial learning rate is zero.
    """
    groups = optimizer.param_groups
    first = float(groups[0].get("initial_lr", groups[0]["lr"]))
    scales = []
    for index, group in enumerate(groups):
        if "lr_scale" in group:
            scales.append(float(group["lr_scale"]))
        elif index == 0:
            scales.append(1.0)
        elif first == 0.0:
            raise ValueError(
                "the first parameter group's lr is 0, so the ratios of the groups are unknown; "
                'set "lr_scale" in each group or give the first group a positive lr'
            )
        else:
            scales.append(float(group.get("initial_lr", group["lr"])) / first)
    return scales


def params_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of an optimizer, in group order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def groups_of_params(optimizer: Optimizer) -> list[tuple[dict[str, Any], float]]:
    """Return each parameter's group and that group's scale, in group order."""
    scales = group_scales(optimizer)
    return [
        (group, scale)
        for group, scale in zip(optimizer.param_groups, scales, strict=True)
        for _ in group["params"]
    ]


def set_rate(optimizer: Optimizer, rate: float | Tensor, scales: Sequence[float]) -> None:
    """Write `rate * scale` into each group; tensors are written in place, floats stay floats."""
    for group, scale in zip(optimizer.param_groups, scales, strict=True):
        if isinstance(group["lr"], Tensor):
            # Keep the float: a float32 tensor of it would lose digits of a float64 learning rate.
            scaled = rate * scale
            group["lr"].copy_(scaled) if isinstance(scaled, Tensor) else group["lr"].fill_(scaled)
        else:
            group["lr"] = float(rate) * scale


def apply_average(params: Iterable[Tensor], average: Average) -> None:
    """Replace each parameter by `weight * p + rest`, in place."""
    with torch.no_grad():
        params = list(params)
        torch._foreach_mul_(params, average.weight)
        torch._foreach_add_(params, list(average.rest))


def pack(state: Any) -> dict[str, Any]:
    """Return a state as a plain dict that loads under `weights_only=True`."""
    return state._asdict()


def unpack(template: Any, packed: dict[str, Any]) -> Any:
    """Return the state in `packed`, of the type of `template` (a controller's `init()`).

    Each tensor is moved to the device of the template's tensor.

    Raises:
        ValueError: The fields differ, so the state belongs to another controller.
    """
    if set(packed) != set(template._fields):
        raise ValueError(
            f"the saved state has the fields {sorted(packed)}, "
            f"but {type(template).__name__} has {sorted(template._fields)}; "
            "build the scheduler with the controller that was saved"
        )
    return type(template)(
        **{name: _like(getattr(template, name), value) for name, value in packed.items()}
    )


def _like(template: Any, value: Any) -> Any:
    if isinstance(template, Tensor) and isinstance(value, Tensor):
        return value.to(template.device)
    if isinstance(template, tuple) and isinstance(value, tuple) and len(template) == len(value):
        return tuple(_like(t, v) for t, v in zip(template, value, strict=True))
    return value


def clone(value: Any) -> Any:
    """Return a copy of a state that shares no tensor with it."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple):
        items = [clone(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value
