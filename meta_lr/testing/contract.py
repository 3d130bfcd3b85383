"""The rules, one function each."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from meta_lr.baselines.policies import Constant
from meta_lr.protocol import Controller, Need, StepView, UndeclaredError
from meta_lr.tasks.quadratic import Quadratic
from meta_lr.testing.compare import difference, first_change, leaves
from meta_lr.testing.problem import MakeOptimizer, OwnLoop, Problem
from meta_lr.training.loop import train

STEPS = 120  # of a run; the published method updates its network every 100
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

    Args:
        controller: The method, with its options.
        learns: Whether its rates suit a quadratic of curvature 0.01 to 1.
        optimizer: Makes the optimizer from the parameters; by default SGD with momentum 0.9.
        steps: Length of the runs, at least 12.

    >>> check_controller(Constant(0.1), steps=24)
    """
    check_docstring(controller)
    check_repr(controller)
    check_reads(controller, optimizer=optimizer, steps=steps)
    if learns:
        check_learns(controller, optimizer=optimizer, steps=steps)
    check_no_trace(controller, optimizer=optimizer, steps=steps)
    check_resumes(controller, optimizer=optimizer, steps=steps)
    check_drop_in(controller, optimizer=optimizer, steps=steps)


def check_docstring(controller: Controller) -> None:
    """Check that its class is documented: Update, Reference, Deviations and Cost."""
    text = type(controller).__doc__ or ""
    missing = [name for name in SECTIONS if not re.search(rf"^\s*{name}:\s*\S", text, re.M)]
    _require(not missing, controller, "is documented", f"no {', '.join(missing)} in its docstring")


def check_repr(controller: Controller) -> None:
    """Check that it is a frozen dataclass whose repr shows all fields, tensors by fingerprint."""
    rule, shown = "shows its fields", repr(controller)
    params = getattr(controller, "__dataclass_params__", None)
    _require(params is not None and params.frozen, controller, rule, "it is not a frozen dataclass")
    _require(" at 0x" not in shown, controller, rule, f"an address is in its repr, {shown}")
    for field in fields(controller) if is_dataclass(controller) else ():
        value = getattr(controller, field.name)
        hashed = _holds_tensors(value) and "fingerprint=" in shown
        seen = hashed or not field.init or f"{field.name}={value!r}" in shown
        _require(seen, controller, rule, f"{field.name} is not in its repr, {shown}")


def check_reads(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that it reads of the view, and does in the sandbox, only what its `needs` declare."""
    try:
        loop = OwnLoop(controller, optimizer, steps)
        for need, method in ((Need.TRIALS, "trial"), (Need.META, "meta_loss")):
            if not need & controller.needs:
                vars(loop.sandbox)[method] = partial(_refuse, f"sandbox.{method}", need)
        loop.run(steps)
    except UndeclaredError as error:
        _require(False, controller, "reads only what it declares", str(error))


def check_learns(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that its rates bring down the loss of a noisy quadratic."""
    task = Quadratic()
    with torch.no_grad():
        first = float(task.metrics(task.model(), task.batch("val", 0))["loss"])
    outcome = train(task, optimizer, controller, total_steps=steps)
    last = outcome.val["loss"] if outcome.status == "finished" else math.inf
    change = f"its loss went from {first:.4g} to {last:.4g} in {outcome.steps} steps"
    _require(last < first, controller, "learns the quadratic", change)


def check_no_trace(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that a run which asks it, but takes a constant rate, equals one without it.

    Compared bit for bit after each step: parameters, buffers, optimizer state, gradients, and the
    global random states of torch, NumPy and Python.
    """
    plain = OwnLoop(Constant(0.05), optimizer, steps)
    expected = [leaves(plain.untouchable()) for _ in plain.each(steps)]
    asked = OwnLoop(_Unheeded(controller, 0.05), optimizer, steps)
    for step, _ in enumerate(asked.each(steps)):
        changed = difference(expected[step], leaves(asked.untouchable()))
        _require(not changed, controller, "leaves no trace", f"{changed} changed at step {step}")


def check_resumes(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that a run which is saved as bytes and loaded goes on as if nothing had happened.

    Before it goes on, the same instance steers another run: what a controller keeps outside its
    state does not come back.
    """
    rule, cut = "resumes exactly", steps - steps // 12
    half, whole, resumed = (OwnLoop(controller, optimizer, steps) for _ in range(3))
    half.run(cut)
    try:
        resumed.load(half.save())
    except (pickle.PickleError, AttributeError, TypeError) as error:
        needed = "its state is to be a NamedTuple of numbers, strings, tensors and tuples"
        raise AssertionError(_broken(controller, rule, f"{needed} ({error})")) from error
    rates = whole.run(steps)[cut:]
    changed = first_change(rates, resumed.run(steps - cut))
    _require(not changed, controller, rule, f"{changed}, after step {cut}")
    changed = difference(leaves(whole.everything()), leaves(resumed.everything()))
    _require(not changed, controller, rule, f"{changed} differs at the end")


def check_drop_in(
    controller: Controller, *, optimizer: MakeOptimizer = MOMENTUM, steps: int = STEPS
) -> None:
    """Check that its rates in `train` are those in a handwritten loop with `ControlledLR`."""
    rule, rates = "gives the same rates in any loop", list[float]()

    def keep(row: dict[str, Any]) -> None:
        if row["kind"] == "step":
            rates.append(row["lr"])

    status = train(Problem(), optimizer, controller, total_steps=steps, listener=keep).status
    _require(status == "finished", controller, rule, f"train ended with '{status}'")
    changed = first_change(rates, OwnLoop(controller, optimizer, steps).run(steps))
    _require(not changed, controller, rule, changed)


CHECKS: tuple[Callable[[Controller], None], ...] = (
    check_docstring,
    check_repr,
    check_reads,
    check_learns,
    check_no_trace,
    check_resumes,
    check_drop_in,
)


@dataclass(frozen=True)
class _Unheeded:
    """Asks the inner controller, and says a constant."""

    inner: Controller
    rate: float

    @property
    def needs(self) -> Need:
        return self.inner.needs

    @property
    def family(self) -> str:
        return getattr(self.inner, "family", "")

    def init(self) -> Any:
        return self.inner.init()

    def __call__(self, view: StepView, state: Any) -> tuple[float, Any]:
        return self.rate, self.inner(view, state)[1]


def _require(holds: bool, controller: Controller, rule: str, what: str) -> None:
    if not holds:
        raise AssertionError(_broken(controller, rule, what))


def _broken(controller: Controller, rule: str, what: str) -> str:
    return f"{type(controller).__name__} breaks the rule '{rule}': {what}"


def _refuse(what: str, need: Need, *_: object, **__: object) -> NoReturn:
    raise UndeclaredError(f"it uses {what} but does not declare {need.name}")


def _holds_tensors(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_holds_tensors, value))
    return isinstance(value, (Tensor, nn.Module))
