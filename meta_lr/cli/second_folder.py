"""`checkpoint=`, a second folder for what was learned: no two jobs of a sweep write to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from meta_lr.cli.conf_files import conf_dir
from meta_lr.cli.overrides import parsed

_WRITES = ("meta-train", "meta-train-episodic")


def refuse_shared(command: str, overrides: Sequence[str]) -> None:
    """Raise a ValueError for `checkpoint=` in a sweep, unless it names all that its jobs vary."""
    if command not in _WRITES:
        return
    read = list(filter(None, map(parsed, overrides)))
    (*_, given) = [None, *(one for one in read if one.key_or_group == "checkpoint")]
    swept = [one for one in read if one.is_sweep_override() and one is not given]
    differs = [_as_text(one.get_key_element().lstrip("+")) for one in swept]
    for place in [] if given is None else _places(given):
        if any(text not in place for text in differs):
            raise ValueError(
                f"checkpoint={place} is one folder for several jobs of the sweep; name in it what "
                f"they differ by, such as checkpoint='{'-'.join(['mine', *differs])}', or leave it "
                "out: each run's own folder has its checkpoint"
            )


def kept(cfg: DictConfig, folder: Path, write: Callable[[Path], str]) -> dict[Path, str]:
    """Write a checkpoint below the run's folder, and into a second one if `checkpoint` names it.

    In a sweep there is no second one if `checkpoint` comes from a config file, the same for all
    jobs. `write` returns a fingerprint; the result is the fingerprint by folder.
    """
    places = {folder / "checkpoint": write(folder / "checkpoint")}
    conf = HydraConfig.get()
    given = any(text.lstrip("+").startswith("checkpoint=") for text in conf.overrides.task)
    if cfg.checkpoint and conf.mode == RunMode.MULTIRUN and not given:
        print(f"not copied to {cfg.checkpoint}, which all jobs of a sweep would write to")
    elif cfg.checkpoint:
        places[Path(cfg.checkpoint)] = write(Path(cfg.checkpoint))
    return places


def _places(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [place.replace("\\", "") for place in override.sweep_string_iterator()]
    place = (override.input_line or "").partition("=")[2]
    return [] if place in ("", "null") else [place]


def _as_text(key: str) -> str:
    """Return what stands for the value of `key` inside of another option."""
    group = (conf_dir() / key).is_dir()
    return f"${{hydra:runtime.choices.{key}}}" if group else f"${{{key}}}"
