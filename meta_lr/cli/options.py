"""What `--help` lists: options with their defaults and comments, all from the config files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from meta_lr.cli import policies
from meta_lr.cli.arguments import experiment_command
from meta_lr.cli.places import conf_dir

_WIDTH = 34


def options(*, _root_: DictConfig) -> str:
    """Return what a composed config offers, for people; the resolver `${options:}`."""
    parts = [_experiments(_root_), _choices(), _settings(_root_)]
    return "\n\n".join(parts).replace("$", "$$")  # Hydra takes the help for a string.Template


def names(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of a config's own options, without those that only pass others on."""
    for key in (str(key) for key in cfg if not str(key).startswith("_")):
        node = cfg._get_node(key)
        if isinstance(node, DictConfig) and not node._is_interpolation():
            yield from names(node, f"{prefix}{key}.")
        elif not OmegaConf.is_interpolation(cfg, key):
            yield f"{prefix}{key}"


def comments() -> dict[str, str]:
    """Return what the files of the present config say beside its options, by dotted name.

    A group's name, such as `task`, has the first line of the file that was chosen for it.
    """
    loader, present = GlobalHydra.instance().config_loader(), HydraConfig.get()
    chosen = loader.compute_defaults_list(
        present.job.config_name, list(present.overrides.task), RunMode.RUN
    )
    folders = [Path(source.path) for source in loader.get_sources() if source.scheme() == "file"]
    said: dict[str, str] = {}
    for part in chosen.defaults:
        if part.config_path.startswith("hydra/"):
            continue
        prefix = f"{part.package}." if part.package else ""
        found = _comments_of(part.config_path, folders)
        said |= {(prefix + name).removesuffix("."): text for name, text in found.items()}
    return said


def _comments_of(config: str, folders: Sequence[Path]) -> dict[str, str]:
    """Return what is said of a config's options, by name, and of itself as ""."""
    group, _, name = config.rpartition("/")
    paths = (folder / f"{config}.yaml" for folder in folders)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        known = group == "lr" and name in policies.EXAMPLES
        return policies.comments_of(name) if known else {}
    text = path.read_text(encoding="utf-8")
    return {"": " ".join(above(text)[:1]), **beside(text)}


def beside(text: str) -> dict[str, str]:
    """Return the comments at the ends of a YAML file's lines, by the dotted name they stand by."""
    root = yaml.compose(text)
    return dict(_beside(root, text.splitlines(), "")) if isinstance(root, yaml.MappingNode) else {}


def above(text: str) -> list[str]:
    """Return the lines of the comment that a YAML file begins with, without `@package`."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return [line for line in lines if not line.startswith("@package")]


def _beside(node: Any, lines: list[str], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        end = (key if block else value).end_mark
        rest = lines[end.line][end.column :] if end.line < len(lines) else ""
        comment = rest.partition("#")[2].strip()
        if comment:
            yield f"{prefix}{key.value}", comment
        if isinstance(value, yaml.MappingNode):
            yield from _beside(value, lines, f"{prefix}{key.value}.")


def _experiments(cfg: DictConfig) -> str:
    """Return the experiments that were made for the command, each with what it says of itself."""
    lines = ["Experiments of this command:"]
    command = cfg.hydra.job.config_name.replace("_", "-")
    for path in sorted((conf_dir() / "experiment").glob("*.yaml")):
        words = experiment_command(path.stem)
        if words and words[1] == command:
            shown, *rest = above(path.read_text(encoding="utf-8"))
            lines += [f"  {shown}", *(f"      {line}" for line in rest)]
    return "\n".join(lines if len(lines) > 1 else [f"{lines[0]} none"])


def _choices() -> str:
    """Return the config groups with their choices."""
    loader = GlobalHydra.instance().config_loader()
    groups = [g for g in sorted(loader.list_groups("")) if g not in ("hydra", "experiment")]
    lines = [f"  {group}: {', '.join(loader.get_group_options(group))}" for group in groups]
    return "\n".join(["Choices (group=choice):", *lines])


def _settings(cfg: DictConfig) -> str:
    """Return all options: first those of the command itself, then group by group."""
    said, groups = comments(), _chosen(cfg)
    own: dict[str, list[str]] = {package: [] for package in ("", *groups)}
    for name in names(cfg):
        top = name.partition(".")[0]
        if top != "hydra":
            own[top if top in groups else ""].append(_line(cfg, name, said.get(name, "")))
    lines = ["Options, with the values they have unless you set them:", *own.pop("")]
    for package, choice in groups.items():
        lines += ["", f"  {choice:{_WIDTH}}  {said.get(package, '')}".rstrip(), *own[package]]
    return "\n".join(lines)


def chosen_groups(conf: DictConfig | HydraConf) -> dict[str, str]:
    """Return how the choice of each group is written, by the key that it has in the config.

    Args:
        conf: Hydra's own config, of a command that has been composed.
    """
    return {
        group.rpartition("@")[2].removeprefix("_global_."): f"{group.partition('@_')[0]}={choice}"
        for group, choice in conf.runtime.choices.items()
        if choice
    }


def _chosen(cfg: DictConfig) -> dict[str, str]:
    """Return the same of those groups that are a part of `cfg`."""
    packages = chosen_groups(cfg.hydra)
    return {str(key): packages[key] for key in cfg if key in packages}


def _line(cfg: DictConfig, name: str, comment: str) -> str:
    parent, _, key = name.rpartition(".")
    within = OmegaConf.select(cfg, parent) if parent else cfg
    if OmegaConf.is_missing(within, key):
        return f"    {f'{name}=':{_WIDTH - 2}}  needed: {comment}"
    value = OmegaConf.to_container(OmegaConf.create({"value": within[key]}))
    shown = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    shown = shown.strip().removeprefix("{value: ").removesuffix("}").replace(", ", ",")
    return f"    {f'{name}={shown}':{_WIDTH - 2}}  {comment}".rstrip()
