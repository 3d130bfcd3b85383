"""Scheduler checkpoints: a folder of `config.json`, `model.safetensors` and a card.

`config.json` is the contract: what the network is, what its output means and what it has seen.
Nothing in a checkpoint chooses what gets imported, and no pickle is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from meta_lr.baselines.fallback import Fallback
from meta_lr.baselines.policies import Cosine
from meta_lr.files import write_atomically
from meta_lr.schedulers.features import FEATURES, Features
from meta_lr.schedulers.gamma import InitialLossGamma
from meta_lr.schedulers.learned import Learned
from meta_lr.schedulers.lstm import LSTM
from meta_lr.schedulers.mlp import MLP
from meta_lr.schedulers.network import Network, Tensors, options

FORMAT = 2  # 2 came with features, floors, annealing and formulas for gamma
FORMULA = "initial_loss"  # the name in the file of the one formula for gamma
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
NETWORKS: dict[str, type] = {"LSTM": LSTM, "MLP": MLP}
_TYPES = {
    "network": str,
    "arguments": dict,
    "gamma": (int, float, dict),
    "stages": int,
    "family": str,
    "loss_range": (list, type(None)),
    "trained_on": dict,
}
PAPER = "Shu, Zhu, Zhao, Meng & Xu (2020), arXiv 2007.14546"

Contract = dict[str, Any]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def save(
    folder: Path,
    learned: Learned,
    *,
    trained_on: Mapping[str, Any],
    card: str,
    license: str = "Apache-2.0",
) -> Contract:
    """Write a checkpoint folder and return its contract; each file is replaced atomically.

    Nothing is written where this checkpoint is already: its card may have grown, and the folder may
    be read-only.

    Args:
        folder: Made if missing.
        learned: The scheduler, with gamma, family and range of losses.
        trained_on: Task, model, steps, seed, cost (in plain steps) and commit of meta-training.
        card: Text of the card, in Markdown.
        license: Of the weights, as an SPDX name; "unknown" if they came without one.
    """
    version = _version(learned)
    tensors = save_tensors(_named(learned), metadata={"format_version": str(version)})
    contract = {
        "format_version": version,
        "network": type(learned.net).__name__,
        "arguments": options(learned.net),
        "features": [_described(name) for name in learned.features.names],
        "output": _output(learned),
        **({"anneal": True} if learned.anneal else {}),
        "gamma": _written(learned.gamma),
        "stages": len(learned.stages),
        "family": learned.family,
        "loss_range": learned.loss_range and list(learned.loss_range),
        "trained_on": dict(trained_on),
        "license": license,
        "paper": PAPER,
    }
    contract["fingerprint"] = _fingerprint(contract, tensors)
    config = (json.dumps(contract, indent=2) + "\n").encode()
    if not (_holds(folder / WEIGHTS, tensors) and _holds(folder / CONFIG, config)):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / WEIGHTS, tensors)
        write_atomically(folder / CARD, card.encode())
        write_atomically(folder / CONFIG, config)
    return contract


def load(folder: Path) -> tuple[Learned, Contract]:
    """Read a checkpoint folder; return the scheduler and its contract.

    Raises:
        CheckpointError: A file is missing, damaged, from a newer format, or not of the other.
    """
    contract = _contract(folder)
    data = _bytes(folder / WEIGHTS)
    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} is damaged or cut short ({error}); copy the checkpoint again"
        ) from None
    net, features = _network(folder, contract), _features(folder, contract)
    gamma = _gamma(folder, contract)
    anneal = contract.get("anneal", False)
    if not isinstance(anneal, bool):
        raise CheckpointError(f"{folder / CONFIG}: anneal is {anneal!r}, not true or false")
    if net.inputs != features.inputs:
        raise CheckpointError(
            f"{folder / CONFIG}: {net} does not fit {features.inputs} features; copy it again"
        )
    stages = [_stage(folder, tensors, i, net) for i in range(contract["stages"])]
    if _fingerprint(contract, data) != contract["fingerprint"]:
        raise CheckpointError(
            f"{folder}: the weights are not those that {CONFIG} was written for; "
            "copy both files from the same checkpoint"
        )
    bounds = contract["loss_range"]
    learned = Learned(
        net,
        stages,
        gamma,
        family=contract["family"],
        loss_range=None if bounds is None else (bounds[0], bounds[1]),
        features=features,
        anneal=anneal,
    )
    return learned, contract


def load_pretrained(
    name: str, peak: float | None = None, *, fallback: Literal["cosine"] | None = None
) -> Learned | Fallback:
    """Return a pretrained scheduler, ready for `ControlledLR`.

    Args:
        name: A bundled checkpoint such as "mlr-snet-cifar10", a folder, or
            "hub:org/name@revision" on the Hugging Face hub (needs huggingface_hub).
        peak: The rate at full output, or, where the scheduler corrects a cosine (`anneal`), that
            cosine's peak. Without it the checkpoint's own holds, be it a number or a
            formula, and the scheduler is refused by an optimizer of another family than it was
            learned with.
        fallback: "cosine" hands over to a cosine from the rate at full output while the recent
            losses lie above all that was seen in meta-training, and counts those steps in its
            state's `num_fallbacks` (see `Fallback`); None warns once and goes on.

    Raises:
        CheckpointError: There is no such checkpoint, or it cannot be used.
    """
    learned, _ = load(find(name))
    if peak is not None and not 0.0 < peak < math.inf:
        raise CheckpointError(f"peak is {peak}; the rate at full output is finite and positive")
    if peak is not None:
        learned = replace(learned, gamma=peak, family="")
    if fallback is None:
        return learned
    if fallback != "cosine":
        raise CheckpointError(f"fallback is {fallback!r}; it is 'cosine' or None")
    if learned.loss_range is None:
        raise CheckpointError(
            f"the checkpoint {name!r} keeps no range of the losses that it was learned on, so "
            "there is no fallback for losses above it; leave fallback= out"
        )
    if isinstance(learned.gamma, InitialLossGamma):
        raise CheckpointError(
            f"fallback={fallback!r} needs a rate to start from, but the checkpoint's is "
            f"{learned.gamma}; pass peak="
        )
    quiet = replace(learned, loss_range=None)
    low, high = learned.loss_range
    return Fallback(quiet, Cosine(learned.gamma), high + 0.1 * (high - low))  # as for the warning


def find(name: str) -> Path:
    """Return the folder of the checkpoint `name`, as `load_pretrained` takes it."""
    if name.startswith("hub:"):
        return _from_hub(name.removeprefix("hub:"))
    path = Path(name)
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file; a checkpoint is a folder of {CONFIG} and {WEIGHTS} "
            "(pickles such as .pt and .pth are not read)"
        )
    if path.is_dir():
        return path
    if (bundled() / name / CONFIG).is_file():
        return bundled() / name
    known = ", ".join(sorted(p.parent.name for p in bundled().glob(f"*/{CONFIG}"))) or "none"
    raise CheckpointError(f"no checkpoint {name!r}: not a folder, and bundled are: {known}")


def bundled() -> Path:
    """Return the folder of the checkpoints that come with the package."""
    here = Path(__file__).parent
    inside = here / "checkpoints"
    return inside if inside.is_dir() else here.parent / "checkpoints"


def _named(learned: Learned) -> dict[str, Tensor]:
    return {
        f"stage{i}.{name}": weight.detach().cpu().contiguous().clone()  # stages may share memory
        for i, weights in enumerate(learned.stages)
        for name, weight in zip(learned.net.names, weights, strict=True)
    }


def _version(learned: Learned) -> int:
    """Return the oldest format that can hold it."""
    net = learned.net
    old = learned.features.raw and (net.inputs, net.floor) == (1, 0.0) and not learned.anneal
    return 1 if old and not isinstance(learned.gamma, InitialLossGamma) else FORMAT


def _described(name: str) -> dict[str, Any]:
    feature = FEATURES[name]
    return {"name": name, "meaning": feature.meaning, "unit": feature.unit, "shape": []}


def _output(learned: Learned) -> dict[str, Any]:
    """Return what the output means: the rate, or its share of gamma where that is a formula."""
    floor = 0.0 if learned.anneal else learned.net.floor
    if isinstance(learned.gamma, InitialLossGamma):
        return {"kind": "share of gamma", "bounds": [floor, 1.0], "scale": "formula"}
    bounds = [floor * learned.highest, learned.highest]
    return {"kind": "rate", "bounds": bounds, "scale": "peak"}


def _written(gamma: float | InitialLossGamma) -> float | dict[str, Any]:
    return {"formula": FORMULA, **asdict(gamma)} if isinstance(gamma, InitialLossGamma) else gamma


def _contract(folder: Path) -> Contract:
    path = folder / CONFIG
    try:
        contract = json.loads(_bytes(path))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not JSON ({error}); copy the checkpoint again") from None
    if not isinstance(contract, dict):
        raise CheckpointError(f"{path} holds no contract; copy the checkpoint again")
    version = contract.get("format_version")
    if not isinstance(version, int) or version > FORMAT:
        raise CheckpointError(
            f"{path} has format {version}, this meta_lr reads up to {FORMAT}; "
            "install a newer meta_lr"
        )
    missing = {"network", "arguments", "gamma", "stages", "family", "loss_range", "fingerprint"}
    missing |= {"trained_on"}
    missing -= set(contract)
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}; copy it again")
    for name, kind in _TYPES.items():
        if not isinstance(contract[name], kind):
            raise CheckpointError(
                f"{path}: {name} is {contract[name]!r}, of the wrong type; copy it again"
            )
    return contract


def _network(folder: Path, contract: Contract) -> Network:
    kind = contract["network"]
    if kind not in NETWORKS:
        raise CheckpointError(
            f"{folder / CONFIG} names the network {kind!r}; known are {', '.join(NETWORKS)}"
        )
    try:
        net = NETWORKS[kind](**contract["arguments"])
        net.init(0)  # sizes that are no whole numbers are only noticed here
        return net
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {kind} does not take this: {error}") from None


def _features(folder: Path, contract: Contract) -> Features:
    described = contract.get("features", [{"name": "loss"}])
    try:
        names = [entry["name"] for entry in described]
        unknown = [name for name in names if name not in FEATURES]
        if not unknown:
            return Features(tuple(names))
    except (TypeError, KeyError, ValueError):
        raise CheckpointError(
            f"{folder / CONFIG}: features is {described!r}, of the wrong form; copy it again"
        ) from None
    raise CheckpointError(
        f"{folder / CONFIG} names the features {', '.join(map(repr, unknown))}, which this meta_lr "
        "does not know: it is from a newer format; install a newer meta_lr"
    )


def _gamma(folder: Path, contract: Contract) -> float | InitialLossGamma:
    gamma = contract["gamma"]
    if not isinstance(gamma, dict):
        return gamma
    if gamma.get("formula") != FORMULA:
        raise CheckpointError(
            f"{folder / CONFIG} names the formula {gamma.get('formula')!r} for gamma, which this "
            "meta_lr does not know: it is from a newer format; install a newer meta_lr"
        )
    try:
        return InitialLossGamma(**{k: v for k, v in gamma.items() if k != "formula"})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG}: gamma does not take this: {error}") from None


def _stage(folder: Path, tensors: Mapping[str, Tensor], stage: int, net: Network) -> Tensors:
    weights = []
    for name, like in zip(net.names, net.init(0), strict=True):
        found = tensors.get(f"stage{stage}.{name}")
        if found is None or found.shape != like.shape:
            raise CheckpointError(
                f"{folder / WEIGHTS} holds another network: stage{stage}.{name} is "
                f"{'missing' if found is None else tuple(found.shape)}, "
                f"but {net} needs {tuple(like.shape)}"
            )
        weights.append(found)
    return tuple(weights)


def _fingerprint(contract: Contract, tensors: bytes) -> str:
    signed = {key: value for key, value in contract.items() if key != "fingerprint"}
    text = json.dumps(signed, sort_keys=True).encode()
    return hashlib.sha256(text + hashlib.sha256(tensors).digest()).hexdigest()[:16]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise CheckpointError(
            f"{path} is missing; a checkpoint is a folder of {CONFIG} and {WEIGHTS}"
        ) from None


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise CheckpointError(
            "checkpoints from the hub need huggingface_hub: pip install huggingface_hub"
        ) from None
    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None))
    except OSError as error:  # all that goes wrong on the way is one
        raise CheckpointError(
            f"hub:{name} could not be fetched ({error}); check the name and the connection, or "
            "fetch it elsewhere and pass its folder"
        ) from None
