"""Where rows go besides `records.jsonl`; each logger is a context that gives a listener."""

from __future__ import annotations

import hashlib
import netrc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from meta_lr.records.writer import Listener

Logger = Callable[[Path], AbstractContextManager[Listener]]


@contextmanager
def jsonl(folder: Path) -> Iterator[Listener]:
    """Give a listener that does nothing: the record in `folder` is all there is."""
    yield lambda row: None


@contextmanager
def wandb(folder: Path, *, project: str, entity: str | None, every: int) -> Iterator[Listener]:
    """Give a listener that forwards a run to Weights & Biases, offline unless one is logged in.

    The run there begins with the first row, so a run that was finished before makes none; its id
    comes from `folder`, so a resumed run goes on.

    Args:
        folder: The run's folder; an offline run is kept in it.
        project: Project there.
        entity: User or team there; None is the user's default.
        every: Of the recorded steps, or updates of phi, send each n-th.

    Raises:
        ValueError: wandb is missing or does not start.
    """
    run: Any = None
    steps = 0

    def listen(row: dict[str, Any]) -> None:
        nonlocal run, steps
        if run is None:
            run = _start(folder, project, entity, row)
        if row["kind"] in ("step", "update"):
            steps += 1
            if steps % every != 1 and every > 1:
                return
        if row["kind"] in ("step", "angle", "eval", "update", "held_out"):
            run.log(_numbers(row))
        elif row["kind"] == "end":
            run.summary["status"] = row["status"]

    try:
        yield listen
    finally:
        if run is not None:
            run.finish()


def _start(folder: Path, project: str, entity: str | None, row: dict[str, Any]) -> Any:
    try:
        import wandb
    except ImportError:
        raise ValueError(
            "logger=wandb needs the package wandb; pip install wandb, or leave logger=jsonl"
        ) from None
    mode = _mode()
    method, seed = row.get("method", folder.parent.name), row.get("seed", folder.name)
    identity = hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()
    try:
        run = wandb.init(
            project=project,
            entity=entity,
            mode=mode,
            dir=folder,
            id=identity,
            name=f"{method}, seed {seed}",
            group=folder.parent.name,
            config=row if row["kind"] == "header" else None,
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(silent=True),
        )
    except (wandb.Error, OSError) as error:
        raise ValueError(
            f"wandb did not start ({error}); `wandb login`, WANDB_MODE=offline, or logger=jsonl"
        ) from error
    run.define_metric("*", step_metric="step")
    if mode == "offline":
        print(f"wandb is offline; `wandb sync {folder}/wandb/*` uploads the run", file=sys.stderr)
    return run


def _mode() -> Literal["online", "offline", "disabled"]:
    """Return what WANDB_MODE asks for, else "online" if there is an API key, else "offline"."""
    asked = os.environ.get("WANDB_MODE")
    if asked == "disabled" or asked == "offline" or asked == "online":
        return asked
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    return "online" if os.environ.get("WANDB_API_KEY") or _in_netrc(host) else "offline"


def _in_netrc(host: str) -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's numbers under the names they have there: `train/loss`, `val/accuracy`, ..."""
    if row["kind"] in ("update", "held_out"):  # of phi
        part, where = row["kind"], row["update"]
    elif row["kind"] == "step":
        part, where = "train", row["step"] + 1
    elif row["kind"] == "angle":
        part, where = "train", row["step"]
    else:
        part = row["split"] if row["weights"] == "current" else f"{row['split']}_{row['weights']}"
        where = row["step"]
    left_out = ("kind", "split", "weights", "step", "update")
    numbers = {f"{part}/{name}": value for name, value in row.items() if name not in left_out}
    return {**numbers, "step": where}
