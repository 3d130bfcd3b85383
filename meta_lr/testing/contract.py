"""The rules of the contract, one function for each rule."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from meta_lr.methods.basic import Constant
from meta_lr.methods.wrappers import Wrapper
from meta_lr.protocol import Controller, Need, StepView, UndeclaredError
from meta_lr.tasks.quadratic import Quadratic
from meta_lr.testing.compare import difference, first_change, leaves
from meta_lr.testing.problem import MakeOptimizer, OwnLoop, Problem
from meta_lr.testing.watched import PROTOCOL, READS, Watched, blamed, broken
from meta_lr.training.loop import train

STEPS = 120  # of a run; the published MLR-SNet updates its network every 100 steps
_IN_STATE = "keep all that changes in the state"
SECTIONS = ("Update", "Reference", "Deviations", "Cost")  # of a method's docstring
MOMENTUM: MakeOptimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def check_controller(
    controller: Controller,
    *,
    learns: bool = True,
    optimizer: MakeOptimizer = MOMENTUM,
    steps: int = STEPS,
) -> None:
    """Raise an AssertionError unless `controller` keeps every rule of the contract.

    The message is one line: the broken rule, what broke it, and what to do.

    Args:
        controller: The method, with its options.
        learns: Whether its learning rates suit a quadratic of curvature 0.01 to 1.
        optimizer: Makes the optimizer from the parameters; by default SGD with momentum 0.9.
        steps: Length of the runs, at least 12.

    Raises:
        ValueError: The method is for another optimizer family, or `steps` is too small.

    >>> check_controller(Constant(0.1), steps=24)
    """
    check_protocol(controller, optimizer=optimizer, steps=steps)
    check_reads(controller, optimizer=optimizer, steps=steps)
    if learns:
        check_learns(controller, optimizer=optimizer, steps=steps)
    check_no_trace(controller, optimizer=optimizer, steps=steps)
    check_resumes(controller, optimizer=optimizer, steps=steps)
    check_drop_in(controller, optimizer=optimizer, steps=steps)
    check_repr(controller)


def check_protocol(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that it has `needs`, `init` and `__call__`, and that their results are valid."""
    loop = OwnLoop(Watched(controller), optimizer, steps)
    with blamed(controller, PROTOCOL):
        loop.run(12)  # the other checks continue this check


def check_reads(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that it uses only those parts of view and sandbox that its `needs` declare."""
    loop = OwnLoop(Watched(controller), optimizer, steps)
    for need, method in ((Need.TRIALS, "trial"), (Need.META, "meta_loss")):
        if not need & controller.needs:
            vars(loop.sandbox)[method] = partial(_refuse, f"sandbox.{method}", need)
    with blamed(controller, READS):
        loop.run(steps)


def check_learns(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that its learning rates lower the loss of a noisy quadratic by at least 40 %."""
    task, rule = Quadratic(), "learns the quadratic"
    with torch.no_grad():
        first = float(task.metrics(task.model(), task.batch("val", 0))["loss"])
    watched = Watched(controller)
    with blamed(controller, rule):
        outcome = train(task, optimizer, watched, total_steps=steps)
    last = outcome.val["loss"] if outcome.status == "finished" else math.inf
    change = f"its loss went from {first:.4g} to {last:.4g} in {outcome.steps} steps"
    _require(
        last < 0.6 * first,
        controller,
        rule,
        f"{change}; choose learning rates near 0.1, or learns=False",
    )


def check_no_trace(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that the controller has no side effects on the run.

    Two runs use the same constant learning rate; only one of them also calls the controller. After
    each step these must be bit-identical: parameters, buffers, optimizer state, gradients, and the
    global random states of torch, NumPy and Python.
    """
    rule, advice = "leaves no trace", "try things in view.sandbox, draw from your own Generator"
    plain = OwnLoop(Constant(0.05), optimizer, steps)
    expected = [leaves(plain.untouchable()) for _ in plain.each(steps)]
    asked = OwnLoop(_Unheeded(Watched(controller), 0.05), optimizer, steps)
    with blamed(controller, rule):
        for step, _ in enumerate(asked.each(steps)):
            changed = difference(expected[step], leaves(asked.untouchable()))
            what = f"{changed} changed at step {step}; {advice}"
            _require(not changed, controller, rule, what)


def check_resumes(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that a run that is saved as bytes and loaded continues bit-identically.

    Before it continues, the same instance is used in another run. Data that a controller keeps
    outside its state is therefore lost, and the check fails.
    """
    rule, cut, before = "resumes exactly", steps - steps // 12, repr(controller)
    half, whole, resumed = (OwnLoop(Watched(controller), optimizer, steps) for _ in range(3))
    with blamed(controller, rule):
        half.run(cut)
        moved = f"its repr went from {before} to {controller!r}; {_IN_STATE}"
        _require(repr(controller) == before, controller, rule, moved)
        resumed.load(half.save())
        rates = whole.run(steps)[cut:]
        changed = first_change(rates, resumed.run(steps - cut))
    _require(not changed, controller, rule, f"{changed}, after step {cut}; {_IN_STATE}")
    changed = difference(leaves(whole.everything()), leaves(resumed.everything()))
    _require(not changed, controller, rule, f"{changed} differs at the end; {_IN_STATE}")


def check_drop_in(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that `train` and a user-written loop with `ControlledLR` give equal learning rates."""
    rule, rates = "gives the same learning rates in any loop", list[float]()

    def keep(row: dict[str, Any]) -> None:
        if row["kind"] == "step":
            rates.append(row["lr"])

    watched = Watched(controller)
    with blamed(controller, rule):
        status = train(Problem(), optimizer, watched, total_steps=steps, listener=keep).status
        _require(status == "finished", controller, rule, f"train ended with '{status}'")
        changed = first_change(rates, OwnLoop(watched, optimizer, steps).run(steps))
    _require(not changed, controller, rule, f"{changed}; {_IN_STATE}")


def check_repr(controller: Controller) -> None:
    """Check that it is a frozen dataclass whose repr shows all fields, tensors by fingerprint.

    A run is resumed only with the controller of the same repr.
    """
    rule, shown = "shows its fields", repr(controller)
    params = getattr(controller, "__dataclass_params__", None)
    frozen = "it is not a frozen dataclass; put @dataclass(frozen=True) above it"
    _require(params is not None and params.frozen, controller, rule, frozen)
    address = f"an address is in its repr, {shown}; hold values that show what they are"
    _require(" at 0x" not in shown, controller, rule, address)
    for field in fields(controller) if is_dataclass(controller) else ():
        value = getattr(controller, field.name)
        hashed = _holds_tensors(value) and "fingerprint=" in shown
        seen = hashed or not field.init or f"{field.name}={value!r}" in shown
        hidden = f"{field.name} is not in its repr, {shown}; show each option, as dataclasses do"
        _require(seen, controller, rule, hidden)


def check_docstring(controller: Controller) -> None:
    """Check that its class is documented: Update, Reference, Deviations and Cost.

    This rule is only for the methods of this package; it is not in `CHECKS`.
    """
    text = type(controller).__doc__ or ""
    missing = [name for name in SECTIONS if not re.search(rf"^\s*{name}:\s*\S", text, re.M)]
    _require(not missing, controller, "is documented", f"no {', '.join(missing)} in its docstring")


CHECKS: tuple[Callable[[Controller], None], ...] = (
    check_protocol,
    check_reads,
    check_learns,
    check_no_trace,
    check_resumes,
    check_drop_in,
    check_repr,
)


@dataclass(frozen=True)
class _Unheeded(Wrapper):
    """Calls the inner controller, but returns a constant learning rate."""

    inner: Controller
    rate: float

    def __call__(self, view: StepView, state: Any) -> tuple[float, Any]:
        return self.rate, self.inner(view, state)[1]


def _require(holds: bool, controller: Controller, rule: str, what: str) -> None:
    if not holds:
        raise broken(controller, rule, what)


def _refuse(what: str, need: Need, *_: object, **__: object) -> NoReturn:
    raise UndeclaredError(f"it uses {what} but does not declare {need.name}")


def _holds_tensors(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_holds_tensors, value))
    return isinstance(value, (Tensor, nn.Module))
