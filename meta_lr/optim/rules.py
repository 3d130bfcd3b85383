"""The optimizers' update rules as pure functions, bit-equal to torch's own steps.

A rule maps (parameter, gradient, state, group) to a `Direction` and the next state. State and
group have torch's own keys, so the rules read a live optimizer directly. The rules are
differentiable in all inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

State = Mapping[str, Any]


class Direction(NamedTuple):
    """What is subtracted per unit of lr: `numerator / denominator / divisor + decay * p`.

    The parts are stored separately, because torch multiplies them by the learning rate before it
    rounds.
    """

    numerator: Tensor
    denominator: Tensor | None = None
    divisor: float = 1.0
    decay: float = 0.0

    def value(self, p: Tensor) -> Tensor:
        """Return the direction at `p` as one tensor, shaped like `p`."""
        d = self.numerator if self.denominator is None else self.numerator / self.denominator
        d = d if self.divisor == 1.0 else d / self.divisor
        return d + self.decay * p if self.decay else d

    def apply(self, p: Tensor, rate: float | Tensor) -> Tensor:
        """Return the parameter after a step at `rate`; differentiable in `rate` if a tensor."""
        if self.decay:
            p = p * (1 - rate * self.decay)
        step = rate / self.divisor
        if isinstance(step, Tensor):
            d = self.numerator if self.denominator is None else self.numerator / self.denominator
            return p - step * d
        if self.denominator is None:
            return torch.add(p, self.numerator, alpha=-step)
        return torch.addcdiv(p, self.numerator, self.denominator, value=-step)


Rule = Callable[[Tensor, Tensor, State, Mapping[str, Any]], tuple[Direction, dict[str, Any]]]


class PureStep(NamedTuple):
    """An optimizer step without the learning rates; the first dimension may be the copy."""

    rule: Rule
    params: Sequence[Tensor]  # in the optimizer's group order
    grads: Sequence[Tensor | None]  # None without a gradient
    states: Sequence[State]  # the optimizer's state of each parameter
    groups: Sequence[Mapping[str, Any]]  # the group of each parameter

    def direction(self) -> list[Tensor]:
        """Return what is subtracted per unit of learning rate; zeros without a gradient."""
        return [
            torch.zeros_like(p) if g is None else self.rule(p, g, state, group)[0].value(p)
            for p, g, state, group in zip(*self[1:], strict=True)
        ]

    def take(self, lrs: Sequence[float | Tensor]) -> tuple[list[Tensor], list[State]]:
        """Return parameters and states after a step at each parameter's own learning rate."""
        params, states = list(self.params), list(self.states)
        for i, (p, g, state, group, lr) in enumerate(zip(*self[1:], lrs, strict=True)):
            if g is not None:
                direction, states[i] = self.rule(p, g, state, group)
                params[i] = direction.apply(p, lr)
        return params, states


def sgd(p: Tensor, g: Tensor, state: State, group: Mapping[str, Any]) -> tuple[Direction, dict]:
    """SGD with heavy-ball or Nesterov momentum, dampening and L2 decay."""
    g = _with_l2(p, g, group)
    momentum = group["momentum"]
    if momentum == 0:
        return Direction(g), {}
    buffer = state.get("momentum_buffer")
    if buffer is None:
        buffer = g.clone()
    else:
        buffer = (buffer * momentum).add(g, alpha=1 - group["dampening"])
    d = g.add(buffer, alpha=momentum) if group["nesterov"] else buffer
    return Direction(d), {"momentum_buffer": buffer}


def adam(p: Tensor, g: Tensor, state: State, group: Mapping[str, Any]) -> tuple[Direction, dict]:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) with L2 decay."""
    return _adam(_with_l2(p, g, group), state, group, decay=0.0)


def adamw(p: Tensor, g: Tensor, state: State, group: Mapping[str, Any]) -> tuple[Direction, dict]:
    """AdamW: Adam with decoupled decay (Loshchilov & Hutter 2019, arXiv 1711.05101)."""
    return _adam(g, state, group, decay=group["weight_decay"])


def rmsprop(p: Tensor, g: Tensor, state: State, group: Mapping[str, Any]) -> tuple[Direction, dict]:
    """RMSprop (Tieleman & Hinton 2012), with momentum on the scaled gradient."""
    g = _with_l2(p, g, group)
    step, alpha = _count(state), group["alpha"]
    square = _or_zero(state, "square_avg", p) * alpha
    square = square.addcmul(g, g, value=1 - alpha)
    average = _sqrt(square) + group["eps"]
    new = {"step": step, "square_avg": square}
    if group["momentum"] == 0:
        return Direction(g, average), new
    buffer = (_or_zero(state, "momentum_buffer", p) * group["momentum"]).addcdiv(g, average)
    return Direction(buffer), {**new, "momentum_buffer": buffer}


def adagrad(p: Tensor, g: Tensor, state: State, group: Mapping[str, Any]) -> tuple[Direction, dict]:
    """Adagrad (Duchi, Hazan & Singer 2011)."""
    g = _with_l2(p, g, group)
    step, begin = _count(state), group.get("initial_accumulator_value", 0.0)
    total = state["sum"] if "sum" in state else torch.full_like(p, begin)
    total = total.addcmul(g, g, value=1)
    slowing = 1 + (float(step) - 1) * group["lr_decay"]
    return Direction(g, _sqrt(total) + group["eps"], slowing), {"step": step, "sum": total}


def adadelta(
    p: Tensor, g: Tensor, state: State, group: Mapping[str, Any]
) -> tuple[Direction, dict]:
    """Adadelta (Zeiler 2012, arXiv 1212.5701)."""
    g = _with_l2(p, g, group)
    rho, eps = group["rho"], group["eps"]
    square = (_or_zero(state, "square_avg", p) * rho).addcmul(g, g, value=1 - rho)
    deltas = _or_zero(state, "acc_delta", p)
    delta = deltas.add(eps).sqrt() / square.add(eps).sqrt() * g
    deltas = (deltas * rho).addcmul(delta, delta, value=1 - rho)
    return Direction(delta), {"step": _count(state), "square_avg": square, "acc_delta": deltas}


RULES: dict[type[Optimizer], Rule] = {
    torch.optim.SGD: sgd,
    torch.optim.Adam: adam,
    torch.optim.AdamW: adamw,
    torch.optim.RMSprop: rmsprop,
    torch.optim.Adagrad: adagrad,
    torch.optim.Adadelta: adadelta,
}

_REFUSED = ("maximize", "amsgrad", "centered")


def refuse_unsupported(optimizer: Optimizer) -> None:
    """Raise a ValueError if no rule here describes `optimizer` and its options exactly."""
    name = type(optimizer).__name__
    if type(optimizer) not in RULES:
        known = ", ".join(kind.__name__ for kind in RULES)
        raise ValueError(f"no differentiable rule for {name}; use one of {known}")
    for group in optimizer.param_groups:
        options = [option for option in _REFUSED if group.get(option)]
        if type(optimizer) is torch.optim.Adam and group.get("decoupled_weight_decay"):
            options.append("decoupled_weight_decay")
        if options:
            raise ValueError(f"{name} with {options[0]}=True has no rule here; switch it off")


def rule_of(optimizer: Optimizer) -> Rule:
    """Return the rule that describes `optimizer` exactly.

    Raises:
        ValueError: There is no rule for the optimizer, or for one of its options.
    """
    refuse_unsupported(optimizer)
    return RULES[type(optimizer)]


def direction(optimizer: Optimizer) -> list[Tensor]:
    """Return what `optimizer` would subtract per unit of learning rate, for the gradients `p.grad`.

    There is one tensor per parameter, in group order; it is zero without a gradient. Nothing is
    changed. For an optimizer without a rule, the direction is measured with one step on a copy.
    """
    try:
        rule = rule_of(optimizer)
    except ValueError:
        return _direction_of_copy(optimizer)
    places = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    return PureStep(
        rule,
        [p.detach() for p, _ in places],
        [None if p.grad is None else _dense(p.grad) for p, _ in places],
        [_state(optimizer, p) for p, _ in places],
        [group for _, group in places],
    ).direction()


def gradients(params: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of the parameters as dense tensors; zeros without a gradient."""
    return [torch.zeros_like(p) if p.grad is None else _dense(p.grad) for p in params]


def family(optimizer: Optimizer) -> str:
    """Return the name of the family of optimizers with the same scale of learning rates.

    SGD with momentum is a separate family: its learning rates are smaller by about
    1 / (1 - momentum).
    """
    name = type(optimizer).__name__.lower()
    return "sgd_momentum" if name == "sgd" and optimizer.param_groups[0].get("momentum") else name


def refuse_other_family(controller: object, optimizer: Optimizer) -> None:
    """Raise a ValueError if the controller's learning rates are valid for another family."""
    learned = getattr(controller, "family", "")
    if learned and learned != family(optimizer):
        raise ValueError(
            f"the controller's learning rate was learned with {learned}, and the optimizer is "
            f"{family(optimizer)}; use one of the family {learned}, or pass load_pretrained(..., "
            "peak=...), the maximum learning rate, or a policy's own family="
        )


def _adam(
    g: Tensor, state: State, group: Mapping[str, Any], *, decay: float
) -> tuple[Direction, dict]:
    beta1, beta2 = group["betas"]
    step = _count(state)
    mean = _or_zero(state, "exp_avg", g).lerp(g, 1 - beta1)
    square = (_or_zero(state, "exp_avg_sq", g) * beta2).addcmul(g, g, value=1 - beta2)
    correction1, correction2 = 1 - beta1 ** float(step), 1 - beta2 ** float(step)
    denominator = _sqrt(square) / correction2**0.5 + group["eps"]
    new = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
    return Direction(mean, denominator, correction1, decay), new


def _state(optimizer: Optimizer, p: Tensor) -> State:
    """Return the optimizer's state of a parameter; a sparse momentum buffer becomes dense."""
    state = optimizer.state.get(p, {})
    return {k: _dense(v) if isinstance(v, Tensor) else v for k, v in state.items()}


def _dense(tensor: Tensor) -> Tensor:
    return tensor.to_dense() if tensor.is_sparse else tensor


def _with_l2(p: Tensor, g: Tensor, group: Mapping[str, Any]) -> Tensor:
    return g.add(p, alpha=group["weight_decay"]) if group["weight_decay"] else g


def _count(state: State) -> Tensor:
    return state.get("step", torch.tensor(0.0)) + 1


def _or_zero(state: State, key: str, like: Tensor) -> Tensor:
    return state[key] if key in state else torch.zeros_like(like)


def _sqrt(x: Tensor) -> Tensor:
    # The slope of the square root is infinite at 0 (dead units). Use 0 there instead.
    if not x.requires_grad:
        return x.sqrt()
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def _direction_of_copy(optimizer: Optimizer) -> list[Tensor]:
    # Sharded parameters cannot be deep-copied, so copy them here, without gradients.
    places = [p for group in optimizer.param_groups for p in group["params"]]
    copies = {id(p): torch.nn.Parameter(p.detach().clone(), p.requires_grad) for p in places}
    twin = copy.deepcopy(optimizer, copies)
    for group, original in zip(twin.param_groups, optimizer.param_groups, strict=True):
        group["lr"] = 1.0  # a small learning rate would be lost in rounding
        for copied, p in zip(group["params"], original["params"], strict=True):
            copied.grad = p.grad
    twin.step()
    return [
        p.detach() - copied.detach()
        for group, original in zip(twin.param_groups, optimizer.param_groups, strict=True)
        for copied, p in zip(group["params"], original["params"], strict=True)
    ]
