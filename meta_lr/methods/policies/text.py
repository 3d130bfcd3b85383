"""LRBench's policies as text: in LRBench's form, which is also a file name, and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

from meta_lr.json_text import parse_json
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.wrappers import Composite
from meta_lr.protocol import Controller

FORMAT = 1
_PER_EPOCH = " per epoch"
_NAMES = ("k0", "k1", "p", "l", "gamma")  # in the order of LRBench's examples
_NUMBER = r"-?\d+\.?\d*(?:e[-+]?\d+)?"
_OPTION = rf"\+({'|'.join(_NAMES)})_({_NUMBER}(?:\+{_NUMBER})*)"
_SINGLE = rf"lrPolicy_([A-Z0-9]+)((?:{_OPTION})*)"
_EXAMPLE = "lrPolicy_SINEXP+k0_0.01+k1_0.1+l_50+gamma_0.99"


def to_text(policy: Policy | Composite) -> str:
    """Return a policy, or a composite of policies, in LRBench's form, usable as a file name.

    The form does not include the unit of the policy (steps or epochs).

    Raises:
        TypeError: The argument is no policy of LRBench.
        ValueError: The form cannot express the policy: it has a number below 0, the paper's period
            of cos, or parts with another unit than their composite.

    >>> to_text(Policy("sinexp", 1.0, k1=3.0, l=5, gamma=0.94))
    'lrPolicy_SINEXP+k0_1.0+k1_3.0+l_5+gamma_0.94'
    """
    text = "-".join(map(_written, _parts(policy)))
    if isinstance(policy, Policy):
        return text
    return f"{text}-AT-{'+'.join(map(str, policy.boundaries))}"


def from_text(policy: str, *, per: Literal["step", "epoch"] = "step") -> Policy | Composite:
    """Return the policy that a text in LRBench's form describes.

    Args:
        policy: One policy, such as "lrPolicy_TRI+k0_0.01+k1_0.1+l_50". Or several policies joined
            by "-", then "-AT-", then the boundaries joined by "+"; the next policy begins at each
            boundary.
        per: The unit of the policy: optimizer steps, or epochs.

    Raises:
        ValueError: The text is of another form, or describes no policy.
    """
    singles, at, boundaries = policy.partition("-AT-")
    try:
        parts = [_read(single, per) for single in re.split("-(?=lrPolicy_)", singles)]
        if len(parts) == 1 and not at:
            return parts[0]
        starts = [int(start) for start in boundaries.split("+")] if boundaries else []
        return Composite(starts, parts, per)
    except ValueError as error:
        raise ValueError(f"cannot read '{policy}' as a policy: {error}") from None


def label(controller: Controller) -> str:
    """Return the text that identifies a controller in records and results.

    For a policy of LRBench, it is LRBench's form, followed by the unit if that is not steps. If
    there is no such form, it is the policy's JSON. For any other controller, it is the repr.

    >>> label(Policy("fix", 0.1, per="epoch"))
    'lrPolicy_FIX+k0_0.1 per epoch'
    """
    if isinstance(controller, Policy | Composite):
        with suppress(TypeError, ValueError):
            return to_text(controller) + (_PER_EPOCH if controller.per == "epoch" else "")
        with suppress(TypeError, ValueError):
            return to_json(controller)
    return repr(controller)


def from_label(text: str) -> Policy | Composite | None:
    """Return the policy with this label; None if the label is not that of a policy of LRBench."""
    written = text.removesuffix(_PER_EPOCH)
    with suppress(ValueError):
        return from_text(written, per="step" if written == text else "epoch")
    with suppress(ValueError):
        return from_json(text)
    return None


def overrides(text: str) -> str:
    """Return the command-line overrides for the policy with this label; "" if there are none."""
    policy = from_label(text)
    if policy is None:
        return ""
    if text.startswith("{"):
        return _by_number(policy) if isinstance(policy, Policy) else ""
    written = text.removesuffix(_PER_EPOCH)
    return f"lr=lrbench lr.policy={written}" + ("" if written == text else " lr.per=epoch")


def to_json(policy: Policy | Composite) -> str:
    """Return a policy, or a composite of policies, as JSON.

    Raises:
        TypeError: The argument is no policy of LRBench.
        ValueError: A part has another unit than its composite.

    >>> to_json(Policy("fix", 0.1))
    '{"format": 1, "per": "step", "kind": "fix", "k0": 0.1}'
    """
    parts = [_fields(part) for part in _parts(policy)]
    head: dict[str, Any] = {"format": FORMAT, "per": policy.per}
    if isinstance(policy, Policy):
        return json.dumps(head | parts[0])
    starts = (0, *policy.boundaries)
    return json.dumps(head | {"composite": list(zip(starts, parts, strict=True))})


def from_json(text: str) -> Policy | Composite:
    """Return the policy that `to_json` wrote.

    Raises:
        ValueError: The text is no JSON, describes no policy, or has a newer format.
    """
    try:
        content = parse_json(text)
        version, per = content.pop("format"), content.pop("per")
        if version == FORMAT:
            if "composite" not in content:
                return Policy(**content, per=per)
            (first, *starts), parts = zip(*content["composite"], strict=True)
            if first != 0:
                raise ValueError(f"the first policy begins at {first}, not at 0")
            return Composite(starts, [Policy(**part, per=per) for part in parts], per)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"this JSON holds no policy ({type(error).__name__}: {error}); needed is "
            f'{{"format": {FORMAT}, "per": "step", "kind": "tri", "k0": 0.01, "k1": 0.1, "l": 9}}, '
            'or "composite": [[0, {"kind": ...}], [100, {"kind": ...}]] in place of the kind'
        ) from None
    raise ValueError(
        f"the policy has format {version}, this meta_lr reads {FORMAT}; install a newer meta_lr"
    )


def _by_number(policy: Policy) -> str:
    numbers = {**_fields(policy), "per": policy.per}
    kind = numbers.pop("kind")
    shown = {name: list(v) if isinstance(v, tuple) else v for name, v in numbers.items()}
    words = (f"{'+' * (name == 'period')}lr.{name}={value}" for name, value in shown.items())
    return f"lr={kind} {' '.join(words)}".replace(", ", ",")


def _parts(policy: Policy | Composite) -> Sequence[Policy]:
    """Return the policies of a composite, or the single policy; raise if they have no text form."""
    parts = []
    for part in policy.parts if isinstance(policy, Composite) else [policy]:
        if not isinstance(part, Policy):
            raise TypeError(f"{part} has no such form; a Policy has, and a Composite of policies")
        if part.per != policy.per:
            raise ValueError(f"{part} does not count per {policy.per}, as its composite does")
        parts.append(part)
    return parts


def _fields(policy: Policy) -> dict[str, Any]:
    """Return the kind and the given numbers, and the period if it is the paper's."""
    values = {"kind": policy.kind} | {name: getattr(policy, name) for name in _NAMES}
    if policy.period != "2l":
        values["period"] = policy.period
    return {name: value for name, value in values.items() if value is not None}


def _written(policy: Policy) -> str:
    if policy.period != "2l":
        raise ValueError("LRBench's form has cos with the period 2l alone; halve l, or use to_json")
    text = f"lrPolicy_{policy.kind.upper()}"
    for name in _NAMES:
        value = getattr(policy, name)
        if value is not None:
            text += f"+{name}_{_joined(name, value if isinstance(value, tuple) else (value,))}"
    return text


def _joined(name: str, numbers: Sequence[float]) -> str:
    if min(numbers) < 0:
        raise ValueError(
            f"{name}={numbers[0]} cannot be written in LRBench's form, where - joins policies; "
            "use to_json"
        )
    return "+".join(map(repr, numbers))


def _read(single: str, per: Literal["step", "epoch"]) -> Policy:
    match = re.fullmatch(_SINGLE, single)
    if match is None:
        raise ValueError(f"'{single}' is not of the form {_EXAMPLE}")
    kind, options = match[1].lower(), re.findall(_OPTION, match[2])
    values: dict[str, Any] = {"k0": None}
    for name, written in options:
        if values.get(name) is not None:
            raise ValueError(f"'{single}' has {name} twice")
        numbers = [_number(number) for number in re.findall(_NUMBER, written)]
        several = len(numbers) > 1 or (kind, name) == ("nstep", "l")
        values[name] = numbers if several else numbers[0]
    return Policy(kind, **values, per=per)


def _number(text: str) -> float:
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
