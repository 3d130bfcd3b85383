"""The contract of a checkpoint: a learned scheduler without its weights, in plain values.

A faulty contract raises a ValueError. The caller puts the name of the file in front of its message.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from reprlib import repr as short
from typing import Any

from meta_lr.methods.features.features import FEATURES, Features
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.methods.networks.module import ModuleNetwork
from meta_lr.methods.networks.network import Network, is_number, is_whole, options
from meta_lr.methods.self_tuning.integrator import Integrator
from meta_lr.methods.self_tuning.schedule import SelfTuning
from meta_lr.protocol import HIGHEST
from meta_lr.vectors import Tensors

FORMAT = 3  # 2: features, floors, annealing and formulas for gamma; 3: self-tuning schedules
FORMULA = "initial_loss"  # the name in the file of the one formula for gamma
SELF_TUNING = "self_tuning"  # the kind of a self-tuning schedule; other schedules name no kind
NETWORKS: dict[str, type] = {"LSTM": LSTM, "MLP": MLP}
COPY, UPDATE = "copy the checkpoint again", "install a newer meta_lr"

Contract = dict[str, Any]
Scheduler = Learned | SelfTuning


def described(learned: Scheduler) -> Contract:
    """Return the contract of a scheduler."""
    common = {
        "format_version": _version(learned),
        "network": type(learned.net).__name__,
        "arguments": options(learned.net),
        "features": [_feature(name) for name in learned.features.names],
    }
    if isinstance(learned, SelfTuning):
        return {
            **common,
            "kind": SELF_TUNING,
            "factors": list(learned.inputs.values()),
            "integrator": asdict(learned.integrator),
            "stages": 1,
        }
    return {
        **common,
        "output": _output(learned),
        **({"anneal": True} if learned.anneal else {}),
        "gamma": _written(learned.gamma),
        "stages": len(learned.stages),
        "family": learned.family,
        "loss_range": learned.loss_range and list(learned.loss_range),
    }


def checked(content: object) -> Contract:
    """Return the contract in a file, after checks.

    Raises:
        ValueError: The content is no contract, has a newer format, lacks an entry, or has a wrong
            entry.
    """
    if not isinstance(content, dict):
        raise ValueError(f"holds no contract; {COPY}")
    version = content.get("format_version")
    if not is_whole(version, 1) or version > FORMAT:
        raise ValueError(
            f"has format {short(version)}, this meta_lr reads up to {FORMAT}; {UPDATE}"
        )
    kind = content.get("kind")
    if kind not in (None, SELF_TUNING):
        raise ValueError(
            f"is of the kind {short(kind)}, which this meta_lr does not know; {UPDATE}"
        )
    needed = set(_ENTRIES) - _LATER if kind is None else _OF_SELF_TUNING
    missing = sorted(needed - set(content))
    if missing:
        raise ValueError(f"lacks {', '.join(missing)}; {COPY}")
    for name, (needed, fits) in _ENTRIES.items():
        if name in content and not fits(content[name]):
            value = short(content[name])
            raise ValueError(f"has {name}={value}, but it must be {needed}; {COPY}")
    return content


def network(contract: Contract, own: Network | None = None) -> Network:
    """Return the network; only its sizes are read, and nothing is allocated.

    Args:
        contract: The contract of the checkpoint.
        own: The user's own network, if it is no class of this package; it must match the contract.

    Raises:
        ValueError: The network is unknown, does not accept its arguments, or does not match.
    """
    kind = contract["network"]
    if own is not None:
        _refuse_other(own, kind, contract["arguments"])
        return own
    if kind == ModuleNetwork.__name__:
        raise ValueError("has a torch module as its network; pass net=ModuleNetwork(module, ...)")
    if kind not in NETWORKS:
        raise ValueError(f"names the network {short(kind)}; known are {', '.join(NETWORKS)}")
    return _made(NETWORKS[kind], contract["arguments"], "wrong arguments")


def _refuse_other(own: Network, kind: str, arguments: dict[str, Any]) -> None:
    """Raise a ValueError if a network is not the one named in the checkpoint."""
    mine = json.loads(json.dumps(options(own)))
    if (type(own).__name__, mine) != (kind, arguments):
        raise ValueError(
            f"was written for {kind} with {short(arguments)}, but net= is "
            f"{type(own).__name__} with {short(mine)}"
        )


def features(contract: Contract) -> Features:
    """Return the features that the network reads.

    Raises:
        ValueError: A feature is unknown, or the entry is no list of features.
    """
    entries = contract.get("features", [{"name": "loss"}])
    try:
        names = [entry["name"] for entry in entries]
        unknown = [name for name in names if name not in FEATURES]
        if not unknown:
            return Features(tuple(names))
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"has features={short(entries)}, but it must name each once; {COPY}"
        ) from None
    raise ValueError(
        f"names the features {', '.join(map(short, unknown))}, which this meta_lr does not know: "
        f"it is from a newer format; {UPDATE}"
    )


def gamma(contract: Contract) -> float | InitialLossGamma:
    """Return the scale of the learning rate, a number or a formula.

    Raises:
        ValueError: The formula is unknown, or does not accept its arguments.
    """
    given = contract["gamma"]
    if not isinstance(given, dict):
        return given
    if given.get("formula") != FORMULA:
        raise ValueError(
            f"names the formula {short(given.get('formula'))} for gamma, which this meta_lr does "
            f"not know: it is from a newer format; {UPDATE}"
        )
    arguments = {name: value for name, value in given.items() if name != "formula"}
    return _made(InitialLossGamma, arguments, "a wrong gamma")


def scheduler(
    contract: Contract, net: Network, features: Features, stages: list[Tensors]
) -> Scheduler:
    """Return the scheduler of a contract that `checked` returned.

    Raises:
        ValueError: An entry has a value that this kind of scheduler does not accept.
    """
    if contract.get("kind") == SELF_TUNING:
        return _self_tuning(contract, net, features, stages)
    bounds = contract["loss_range"]
    return Learned(
        net,
        stages,
        gamma(contract),
        family=contract["family"],
        loss_range=None if bounds is None else (bounds[0], bounds[1]),
        features=features,
        anneal=contract.get("anneal", False),
    )


def _self_tuning(
    contract: Contract, net: Network, features: Features, stages: list[Tensors]
) -> SelfTuning:
    schedule = SelfTuning(stages[0], net, _integrator(contract["integrator"]), features)
    factors = [*schedule.inputs.values()]
    if contract.get("factors") != factors:
        raise ValueError(
            f"has factors={short(contract.get('factors'))}, and this meta_lr reads the features "
            f"with {short(factors)}; install the version of meta_lr that wrote it"
        )
    return schedule


def _integrator(bounds: object) -> Integrator:
    known = asdict(Integrator())
    if not isinstance(bounds, dict) or set(bounds) != set(known):
        raise ValueError(f"has integrator={short(bounds)}; needed are {', '.join(known)}")
    try:
        return Integrator(**bounds)
    except ValueError as error:
        raise ValueError(f"has a wrong integrator: {error}") from None


def _made(kind: type, arguments: dict[str, Any], fault: str) -> Any:
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"has {fault}: {error}; {COPY}") from None


def _version(learned: Scheduler) -> int:
    """Return the oldest format that can hold the scheduler."""
    if isinstance(learned, SelfTuning):
        return 3
    net = learned.net
    old = learned.features.raw and (net.inputs, net.floor) == (1, 0.0) and not learned.anneal
    return 1 if old and not isinstance(learned.gamma, InitialLossGamma) else 2


def _feature(name: str) -> dict[str, Any]:
    feature = FEATURES[name]
    return {"name": name, "meaning": feature.meaning, "unit": feature.unit, "shape": []}


def _output(learned: Learned) -> dict[str, Any]:
    """Return the meaning of the output: the learning rate, or its ratio to a formula for gamma."""
    floor = 0.0 if learned.anneal else learned.net.floor
    if isinstance(learned.gamma, InitialLossGamma):
        return {"kind": "share of gamma", "bounds": [floor, 1.0], "scale": "formula"}
    bounds = [floor * learned.highest, learned.highest]
    return {"kind": "rate", "bounds": bounds, "scale": "peak"}


def _written(gamma: float | InitialLossGamma) -> float | dict[str, Any]:
    return {"formula": FORMULA, **asdict(gamma)} if isinstance(gamma, InitialLossGamma) else gamma


def _is_origin(value: Any) -> bool:
    cost = value.get("cost") if isinstance(value, dict) else ""
    return cost is None or (is_number(cost) and cost >= 0)


def _is_scale(value: Any) -> bool:
    return isinstance(value, dict) or (is_number(value) and 0 < value <= HIGHEST)


def _is_family(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.isidentifier()) and len(value) <= 60


def _is_range(value: Any) -> bool:
    if not isinstance(value, list):
        return value is None
    return len(value) == 2 and all(map(is_number, value)) and value[0] <= value[1]


_ENTRIES: dict[str, tuple[str, Callable[[Any], bool]]] = {  # the required type, and a test for it
    "network": ("a name", lambda value: isinstance(value, str)),
    "arguments": ("an object", lambda value: isinstance(value, dict)),
    "gamma": (f"a number > 0 and at most {HIGHEST:g}, or an object", _is_scale),
    "stages": ("a whole number >= 1", lambda value: is_whole(value, 1)),
    "family": ("the name of an optimizer, or an empty text", _is_family),
    "loss_range": ("null, or two finite numbers, the smaller one first", _is_range),
    "trained_on": ("an object whose cost is null or a number >= 0", _is_origin),
    "fingerprint": ("a text", lambda value: isinstance(value, str)),
    "anneal": ("true or false", lambda value: isinstance(value, bool)),
}
_LATER = {"anneal"}  # entries that may be missing in older files
_OF_SELF_TUNING = {
    *("network", "arguments", "features", "integrator", "stages", "trained_on", "fingerprint")
}  # the needed entries of a self-tuning schedule
