"""The contract of a self-tuning schedule: the entries of its checkpoint besides the weights."""

from __future__ import annotations

from dataclasses import asdict
from reprlib import repr as short
from typing import Any

from meta_lr.methods.features.features import Features
from meta_lr.methods.networks.network import Network
from meta_lr.methods.self_tuning.integrator import Integrator
from meta_lr.methods.self_tuning.schedule import SelfTuning
from meta_lr.vectors import Tensors

KIND = "self_tuning"
NEEDED = {"network", "arguments", "features", "integrator", "stages", "trained_on", "fingerprint"}


def described(schedule: SelfTuning) -> dict[str, Any]:
    """Return the entries that only this kind of checkpoint has."""
    return {
        "kind": KIND,
        "factors": list(schedule.inputs.values()),
        "integrator": asdict(schedule.integrator),
        "stages": 1,
    }


def made(
    contract: dict[str, Any], net: Network, features: Features, stages: list[Tensors]
) -> SelfTuning:
    """Return the schedule of a contract that `checked` returned.

    Raises:
        ValueError: The bounds are unknown or no numbers, or the features have other factors.
    """
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
