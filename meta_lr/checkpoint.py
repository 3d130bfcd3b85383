"""Scheduler checkpoints: a folder of `config.json`, `model.safetensors` and a model card.

`config.json` is the contract. It describes the network, the meaning of its output and its
meta-training. Nothing in a checkpoint chooses what gets imported, and no pickle is read.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from numbers import Real
from pathlib import Path
from reprlib import repr as short
from textwrap import shorten
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from meta_lr.files import write_atomically
from meta_lr.json_text import parse_json
from meta_lr.methods.basic import Cosine
from meta_lr.methods.contract import (
    COPY,
    Contract,
    Scheduler,
    checked,
    described,
    network,
    scheduler,
)
from meta_lr.methods.contract import features as features_of
from meta_lr.methods.fallback import Fallback
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.network import Network
from meta_lr.methods.self_tuning.schedule import SelfTuning
from meta_lr.protocol import HIGHEST
from meta_lr.vectors import Tensors

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
DEFAULT = "self-tuning"  # the bundled checkpoint that is used if no name is given
PAPER = "Shu, Zhu, Zhao, Meng & Xu (2020), arXiv 2007.14546"

_MOST_CONFIG, _MOST_WEIGHTS = 2**20, 2**30  # bytes; larger files are refused


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def save(
    folder: Path,
    learned: Scheduler,
    *,
    trained_on: Mapping[str, Any],
    card: str,
    license: str = "Apache-2.0",
) -> Contract:
    """Write a checkpoint folder and return its contract; each file is replaced atomically.

    If the folder already holds this checkpoint, nothing is written: its card may have been
    extended, and the folder may be read-only.

    Args:
        folder: The folder to write; it is created if it is missing.
        learned: The scheduler.
        trained_on: Task, model, steps, seed, cost (in plain steps) and commit of meta-training.
        card: Text of the model card, in Markdown.
        license: License of the weights, as an SPDX name; "unknown" if they have none.
    """
    contract = described(learned) | {
        "trained_on": dict(trained_on),
        "license": license,
        **({"paper": PAPER} if isinstance(learned, Learned) else {}),
    }
    version = str(contract["format_version"])
    tensors = save_tensors(_named(learned), metadata={"format_version": version})
    contract["fingerprint"] = _fingerprint(contract, tensors)
    config = (json.dumps(contract, indent=2) + "\n").encode()
    if not (_holds(folder / WEIGHTS, tensors) and _holds(folder / CONFIG, config)):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / WEIGHTS, tensors)
        write_atomically(folder / CARD, card.encode())
        write_atomically(folder / CONFIG, config)
    return contract


def load(folder: Path, net: Network | None = None) -> tuple[Scheduler, Contract]:
    """Read a checkpoint folder; return the scheduler and its contract.

    Args:
        folder: The checkpoint.
        net: See `load_pretrained`.

    Raises:
        CheckpointError: A file is missing, damaged or in a newer format, or the two files do not
            belong together.
    """
    config, weights = folder / CONFIG, folder / WEIGHTS
    with _blamed(config):
        contract = _parsed(_bytes(config, _MOST_CONFIG))
        net, features = network(contract, net), features_of(contract)
        if net.inputs != features.inputs:
            names = ", ".join(features.names)
            raise ValueError(f"has {net}, which does not fit the features {names}; {COPY}")
    with _blamed(weights):
        data = _bytes(weights, _MOST_WEIGHTS)
        stages = _stages(_tensors(data), net, contract["stages"])
    with _blamed(config):
        made = scheduler(contract, net, features, stages)
    if _fingerprint(contract, data) != contract["fingerprint"]:
        raise CheckpointError(
            f"{folder}: the weights are not those that {CONFIG} was written for; "
            "copy both files from the same checkpoint"
        )
    return made, contract


def load_pretrained(
    name: str | os.PathLike[str] = DEFAULT,
    peak: float | None = None,
    *,
    fallback: Literal["cosine"] | None = None,
    net: Network | None = None,
) -> Learned | Fallback | SelfTuning:
    """Return a pretrained scheduler, ready for `ControlledLR`.

    Args:
        name: A bundled checkpoint such as "mlr-snet-cifar10", a folder, or
            "hub:org/name@revision" on the Hugging Face hub (needs huggingface_hub). The default is
            "self-tuning", which finds its own learning rate and works with any optimizer.
        peak: The maximum learning rate. If the scheduler corrects a cosine (`anneal`), it
            is the peak of that cosine. The default is the checkpoint's own peak, a number or a
            formula; the scheduler then works only with an optimizer of the family that it was
            meta-trained with.
        fallback: "cosine" uses a cosine from the maximum learning rate while the recent
            losses exceed the range seen in meta-training. The state counts those steps in
            `num_fallbacks` (see `Fallback`). None only warns, once.
        net: The network that the checkpoint was made with. It is needed if the network is a torch
            module of your own (`ModuleNetwork`), because a checkpoint holds no code.

    Raises:
        CheckpointError: There is no such checkpoint, or it cannot be used.
    """
    if peak is not None:
        _refuse_peak(peak)
    learned, _ = load(find(name), net)
    if isinstance(learned, SelfTuning):
        if peak is not None or fallback is not None:
            raise CheckpointError(
                f"the checkpoint {name!r} finds its own learning rate; leave peak= and fallback= "
                "out"
            )
        return learned
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
            f"fallback={fallback!r} needs a learning rate to start from, but the checkpoint's is "
            f"{learned.gamma}; pass peak="
        )
    quiet = replace(learned, loss_range=None)
    low, high = learned.loss_range
    return Fallback(quiet, Cosine(learned.gamma), high + 0.1 * (high - low))  # the warning's bound


def _refuse_peak(peak: float) -> None:
    if not isinstance(peak, Real) or isinstance(peak, bool):
        raise CheckpointError(
            f"peak is of type {type(peak).__name__}; pass a learning rate, such as peak=0.1"
        )
    if not 0.0 < peak <= HIGHEST:
        came = "too large" if peak > HIGHEST else peak
        raise CheckpointError(
            f"peak is {came}; pass a learning rate above 0 and at most {HIGHEST:g}, such as "
            "peak=0.1"
        )


def find(name: str | os.PathLike[str]) -> Path:
    """Return the folder of the checkpoint `name`; it takes the names of `load_pretrained`."""
    if not isinstance(name, str | os.PathLike):
        raise CheckpointError(
            f"the name of the checkpoint is of type {type(name).__name__}; pass a bundled name, a "
            "folder or hub:org/name, then peak="
        )
    name = os.fspath(name)
    if name.startswith("hub:"):
        return _from_hub(name.removeprefix("hub:"))
    path = Path(name)
    if os.path.isfile(path):  # also False for a name that is too long
        raise CheckpointError(
            f"{path} is a file; a checkpoint is a folder of {CONFIG} and {WEIGHTS} "
            "(pickles such as .pt and .pth are not read)"
        )
    if os.path.isdir(path):
        return path
    if os.path.isfile(bundled() / name / CONFIG):
        return bundled() / name
    known = list_checkpoints()
    near = difflib.get_close_matches(name, known, n=1)
    raise CheckpointError(
        f"no checkpoint {short(name)}: not a folder, and bundled are: {', '.join(known) or 'none'}"
        + "".join(f"; did you mean {match!r}?" for match in near)
    )


def list_checkpoints() -> list[str]:
    """Return the names of the bundled checkpoints, for `load_pretrained` and `ControlledLR`."""
    return sorted(path.parent.name for path in bundled().glob(f"*/{CONFIG}"))


def bundled() -> Path:
    """Return the folder of the checkpoints that come with the package."""
    here = Path(__file__).parent
    inside = here / "checkpoints"
    return inside if inside.is_dir() else here.parent / "checkpoints"


def _named(learned: Scheduler) -> dict[str, Tensor]:
    return {
        f"stage{i}.{name}": weight.detach().cpu().contiguous().clone()  # stages may share memory
        for i, weights in enumerate(learned.stages)
        for name, weight in zip(learned.net.names, weights, strict=True)
    }


def _tensors(data: bytes) -> dict[str, Tensor]:
    """Return the weights in a file by name.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        return load_tensors(data)
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"is damaged or cut short ({error}); {COPY}") from None


def _stages(tensors: Mapping[str, Tensor], net: Network, num_stages: int) -> list[Tensors]:
    """Return the weights of each stage.

    Raises:
        ValueError: The weights belong to another network, or the network cannot compute with them.
    """
    names, stages = set[str](), list[Tensors]()
    for stage in range(num_stages):  # the first missing weight raises
        parts = [f"stage{stage}.{name}" for name in net.names]
        shaped = zip(parts, net.shapes, strict=True)
        stages.append(tuple(_weight(tensors, name, shape, net) for name, shape in shaped))
        names.update(parts)
    strange = sorted(set(tensors) - names)
    if strange:
        raise ValueError(f"holds another network: it has {short(strange[0])} too; {COPY}")
    kinds = sorted({str(tensor.dtype) for tensor in tensors.values()})
    if kinds not in (["torch.float32"], ["torch.float64"]):
        raise ValueError(
            f"holds weights in {', '.join(kinds)}; save the checkpoint with all of them in "
            "torch.float32, or all in torch.float64"
        )
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ValueError(f"holds a value in {broken[0]} that is not finite; {COPY}")
    return stages


def _weight(
    tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], net: Network
) -> Tensor:
    found = tensors.get(name)
    if found is None or found.shape != shape:
        came = "missing" if found is None else tuple(found.shape)
        raise ValueError(f"holds another network: {name} is {came}, but {net} needs {shape}")
    return found


def _fingerprint(contract: Contract, tensors: bytes) -> str:
    signed = {key: value for key, value in contract.items() if key != "fingerprint"}
    text = json.dumps(signed, sort_keys=True).encode()
    return hashlib.sha256(text + hashlib.sha256(tensors).digest()).hexdigest()[:16]


def _parsed(data: bytes) -> Contract:
    try:
        content = parse_json(data)
    except ValueError as error:
        raise ValueError(f"is not JSON ({error}); {COPY}") from None
    return checked(content)


def _bytes(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes."""
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing; a checkpoint is a folder of {CONFIG} and {WEIGHTS}"
        )
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"has {size:,} bytes, and at most {most:,} are read; {COPY}")
    return path.read_bytes()


@contextmanager
def _blamed(path: Path) -> Iterator[None]:
    """Turn an error in the content of a file into a CheckpointError of one short line."""
    try:
        yield
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(_line(path, str(error))) from None


def _line(path: Path, said: str) -> str:
    """Return one line of at most 300 characters.

    A long path is cut at the start; other long text is cut in the middle.
    """
    name, said = str(path), " ".join(said.split())
    name = name if len(name) <= 120 else f"...{name[-117:]}"
    room = 299 - len(name)
    if len(said) > room:
        said = f"{said[: room - 85]} ... {said[-80:]}"
    return f"{name} {said}"


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
    except (OSError, ValueError) as error:  # of the connection, or of the name
        reason = shorten(str(error), 120, placeholder=" ...")
        raise CheckpointError(
            f"hub:{name} could not be fetched ({reason}); check the name and the connection, or "
            "fetch it elsewhere and pass its folder"
        ) from None
