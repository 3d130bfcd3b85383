"""From a composed config to the parts of a training run, and the run itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from meta_lr.cli.checks import refuse_misfits
from meta_lr.cli.errors import explain_instantiation
from meta_lr.cli.progress import watched
from meta_lr.cli.sweep import JobResult
from meta_lr.methods.policies.text import label
from meta_lr.processes import rank
from meta_lr.protocol import Controller, Need
from meta_lr.records.lock import LockedError
from meta_lr.records.reader import finished
from meta_lr.records.writer import Listener
from meta_lr.tasks.base import Task
from meta_lr.training.compute import Compute
from meta_lr.training.loop import Until, train
from meta_lr.training.outcome import Outcome

# What a part has at least, by the option that sets it.
_NEEDED = {
    "task": ("name", "model", "loss", "batch", "num_batches"),
    **dict.fromkeys(("lr", "learned"), ("needs", "init", "__call__")),
    **dict.fromkeys(("optimizer", "logger", "objective", "window", "problems"), ("__call__",)),
    "net": ("init", "inputs"),
    "features": ("names", "inputs"),
}
_MOST_THREADS = 1024  # with more threads or workers, a CPU is slower or fails to start them

# Commands of many runs, each of which is shown in short.
_OF_MANY = ("transfer", "verify", "recommend", "compose")

# What is tested at the end of a run, in words.
_WEIGHTS = {"last": "last weights", "best": "best on val", "average": "average"}


def build(config: DictConfig) -> Any:
    """Return what a config's `_target_` makes, with plain lists and dicts as arguments.

    Raises:
        ValueError: A value is of the wrong type, or the maker refused one; it says which.
    """
    refuse_misfits(config)
    try:
        made = instantiate(config, _convert_="all")
    except InstantiationException as error:
        own = [str(key) for key in config]
        raise ValueError(explain_instantiation(error, own)) from error
    _refuse_another(made, str(config._key()))
    return made


def _refuse_another(made: object, key: str) -> None:
    """Raise a ValueError if a part, of which `key` says what it is, is something else."""
    lacks = [name for name in _NEEDED.get(key, ()) if not hasattr(made, name)]
    if lacks:
        kind = made.__name__ if isinstance(made, type) else type(made).__name__
        raise ValueError(f"{key}: its _target_ makes a {kind}, which has no {lacks[0]}")


def whole(cfg: DictConfig, key: str, *, least: int, most: int | None = None) -> int:
    """Return the whole number at `key`, or raise a ValueError that names it."""
    value = OmegaConf.select(cfg, key)
    if type(value) is not int or value < least:
        raise ValueError(f"{key}={value}; a whole number is needed, at least {least}")
    if most is not None and value > most:
        raise ValueError(f"{key}={value}; a whole number is needed, at most {most}")
    return value


def positive(cfg: DictConfig, key: str) -> float:
    """Return the positive number at `key`, or raise a ValueError that names it."""
    value = OmegaConf.select(cfg, key)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"{key}={value}; a positive number is needed")
    return float(value)


def header(cfg: DictConfig, command: str, method: str) -> dict[str, Any]:
    """Return what the record's first row says beyond what the loop knows."""
    facts = {
        "command": command,
        "method": method,
        "config": OmegaConf.to_container(cfg, resolve=True),
    }
    choice = HydraConfig.get().runtime.choices.get("model")
    return {**facts, "model": choice} if choice and "model" in cfg.task else facts


def run(
    cfg: DictConfig,
    task: Task,
    controller: Controller,
    folder: Path,
    *,
    header: Mapping[str, Any],
    stop: Callable[[], bool],
    until: Until | None = None,
    test: bool = True,
) -> Outcome:
    """Train as `cfg` says, with progress and logging; a finished run is only read.

    Raises:
        ValueError: An option is out of range, or another process works in `folder`.
    """
    options = _options(cfg, task)
    set_threads(cfg)
    _refuse_empty_meta(task, controller)
    many = header["command"] in _OF_MANY
    title = _title(cfg, header["method"], with_peak=many)
    show = watched(title, options["total_steps"], one_of_many=many)
    with listening(cfg, folder, title, show) as listen:
        facts = {"policy": label(controller), **header}
        places = {"folder": folder, "header": facts, "listener": listen, "stop": stop}
        return train(
            task, build(cfg.optimizer), controller, **options, **places, until=until, test=test
        )


def at(cfg: DictConfig, seed: int, peak: float | None = None) -> DictConfig:
    """Return a copy of `cfg` with this seed, and this peak if there is one."""
    cfg = cfg.copy()
    cfg.seed = seed
    if peak is not None:
        OmegaConf.update(cfg, "lr.peak", peak)
    return cfg


def set_threads(cfg: DictConfig) -> None:
    """Use as many threads on the CPU as `threads` says; null leaves it to torch."""
    if cfg.threads is not None:
        torch.set_num_threads(whole(cfg, "threads", least=1, most=_MOST_THREADS))


@contextmanager
def listening(
    cfg: DictConfig, folder: Path, title: str, shown: AbstractContextManager[Listener]
) -> Iterator[Listener]:
    """Give a listener that shows and logs the rows of what runs in `folder`.

    Raises:
        ValueError: Another process works there.
    """
    if rank():  # the first process shows and logs for all
        yield lambda row: None
        return
    ended_before = finished(folder)
    with build(cfg.logger)(folder) as forward, shown as show:

        def listen(row: dict[str, Any]) -> None:
            show(row)
            forward(row)

        try:
            yield listen
        except LockedError as error:
            raise ValueError(str(error)) from error
    if ended_before:  # said after the folder was checked, so not of another run
        print(f"{title}  was finished before and is kept as it is", flush=True)


def result(outcome: Outcome) -> JobResult:
    """Return what a run came to: its lowest error on val, or loss where there is no accuracy.

    The error is 1 - accuracy, at the weights "best" of the record.
    """
    measure = "val error" if "accuracy" in outcome.val else "val loss"
    if outcome.status != "finished" or outcome.best is None:
        return JobResult(3, outcome.status, math.inf, measure)
    error = 1 - outcome.best if "accuracy" in outcome.val else -outcome.best
    return JobResult(0, outcome.status, error, measure)


def summary(outcome: Outcome, title: str) -> str:
    """Return how a run ended, in three lines."""
    if not outcome.test:
        result = f"{outcome.status}: the loss is not finite; a lower rate may help"
    else:
        name = "accuracy" if "accuracy" in outcome.test["last"] else "loss"
        values = [
            f"{outcome.test[weights][name]:.4f} ({meaning})"
            for weights, meaning in _WEIGHTS.items()
            if weights in outcome.test
        ]
        result = f"test {name} {', '.join(values)}"
    spent = f"{outcome.cost:,.0f} steps, {outcome.seconds:.1f} s"
    if outcome.search_cost:
        spent += f" (of it search {outcome.search_cost:,.0f}, {outcome.search_seconds:.1f} s)"
    return f"{title}:\n  {result}\n  cost {spent}"


def _title(cfg: DictConfig, method: str, *, with_peak: bool) -> str:
    peak = OmegaConf.select(cfg, "lr.peak") if with_peak else None
    return f"{method} seed {cfg.seed}" + ("" if peak is None else f" peak {peak:g}")


def _refuse_empty_meta(task: Task, controller: Controller) -> None:
    """Raise a ValueError now for what would only be noticed at the first batch of `meta`."""
    if Need.META in controller.needs and task.num_batches("meta") < 1:
        name = type(controller).__name__
        raise ValueError(
            f"{name} learns from the split meta, and {task.name} has no examples in it; "
            "raise task.meta_size="
        )


def _options(cfg: DictConfig, task: Task) -> dict[str, Any]:
    """Return the arguments of `train` that the config holds, checked."""
    return {
        "total_steps": length(cfg, task),
        "seed": whole(cfg, "seed", least=0),
        "eval_every": whole(cfg, "eval_every", least=0),
        "save_every": whole(cfg, "save_every", least=0),
        "record_every": whole(cfg, "record.every", least=1),
        "angle_every": _angle_every(cfg, task),
        "average": cfg.average,
        "ema": cfg.ema,
        "norm_decay": cfg.norm_decay,
        "compute": _compute(cfg),
        "clip": None if cfg.clip is None else positive(cfg, "clip"),
        "device": _device(cfg.device),
    }


def _compute(cfg: DictConfig) -> Compute:
    return Compute(
        parts=whole(cfg, "parts", least=1),
        workers=whole(cfg, "workers", least=0, most=_MOST_THREADS),
        precision=cfg.precision,
        channels_last=cfg.channels_last,
        compile=cfg.compile,
    )


def _angle_every(cfg: DictConfig, task: Task) -> int:
    """Return the steps of a block between angles, 0 for none; an angle is between three blocks."""
    every = whole(cfg, "record.angle_every", least=1)
    if not cfg.record.angle:
        return 0
    if 3 * every > (total_steps := length(cfg, task)):
        raise ValueError(
            f"record.angle_every={every}; the first angle is after three times so many steps, "
            f"and the run has {total_steps}; take fewer, or record.angle=false"
        )
    return every


def length(cfg: DictConfig, task: Task) -> int:
    """Return the run's length in steps, from `total_steps` or else from `epochs`."""
    if cfg.total_steps is not None:
        return whole(cfg, "total_steps", least=1)
    if cfg.epochs is None:
        raise ValueError("neither epochs nor total_steps is set; pass one, such as epochs=10")
    return whole(cfg, "epochs", least=1) * task.num_batches("train")


def _device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = shorten(str(error).partition(".")[0], 80, placeholder=" ...")
        raise ValueError(f"device={name} cannot be used ({reason}); pass device=cpu") from error
    return name
