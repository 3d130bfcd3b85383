"""What `--help` of a command prints: all from the config files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from meta_lr.cli.conf_files import ConfFiles, Part, above, conf_dir, merged, names

_WIDTH = 34
_FLAGS = """\
Flags:
  --help                with another choice, such as task=cifar10: the options of that one
  --cfg job --resolve   show the config and stop
  -m, --multirun        one job per combination of comma-separated values
  --config-dir DIR      look for config files in DIR as well
  --info defaults-tree  show which files the config comes from
  --full                print all tables at the end, not the outcome alone

A command that is repeated skips what is finished and resumes what is not.
"""


def help_of(command: str, overrides: Sequence[str], files: ConfFiles) -> str:
    """Return the help of a command, with the choices and values that `overrides` make."""
    parts = files.parts(command, overrides)
    tree = merged(parts)
    told = tree.pop("hydra")["help"]
    _set(tree, overrides)
    groups = [f"  {group}: {', '.join(files.choices(group))}" for group in files.groups()]
    shown = [group for group in groups if not group.startswith("  experiment:")]
    sections = [told["header"], "", told["footer"], _FLAGS, *_experiments(command), ""]
    return "\n".join([*sections, "Choices (group=choice):", *shown, "", *_settings(tree, parts)])


def experiment_command(name: str) -> list[str]:
    """Return the command in the second line of an experiment's file, in words; empty if none."""
    path = conf_dir() / "experiment" / f"{name}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    words = shlex.split(lines[1].removeprefix("#")) if len(lines) > 1 else []
    return words if words[:1] == ["meta-lr"] and len(words) > 1 else []


def comments(parts: Sequence[Part]) -> dict[str, str]:
    """Return what the config files say of each option; a section has the line of its file."""
    said: dict[str, str] = {}
    for part in parts:
        prefix = f"{part.key}." if part.key else ""
        said |= {(prefix + name).removesuffix("."): text for name, text in part.comments.items()}
    return said


def _set(tree: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set the values that are given to options, which are dotted names."""
    for override in overrides:
        name, _, value = override.lstrip("+").partition("=")
        *sections, key = name.split(".")
        within: Any = tree
        for section in sections:
            within = within.get(section) if isinstance(within, dict) else None
        if isinstance(within, dict) and not isinstance(within.get(key, {}), dict):
            within[key] = _Given(value)


class _Given(str):
    """A value as it was typed."""


def _experiments(command: str) -> list[str]:
    """Return the experiments that were made for the command, each with what it says of itself."""
    lines = ["Experiments of this command:"]
    for path in sorted((conf_dir() / "experiment").glob("*.yaml")):
        if experiment_command(path.stem)[1:2] == [command]:
            shown, *rest = above(path.read_text(encoding="utf-8"))
            lines += [f"  {shown}", *(f"      {line}" for line in rest)]
    return lines if len(lines) > 1 else [f"{lines[0]} none"]


def _settings(tree: Mapping[str, Any], parts: Sequence[Part]) -> list[str]:
    """Return all options: first those of the command itself, then those of each choice."""
    said = comments(parts)
    chosen = {part.key: part.choice for part in parts if part.key in tree}
    own: dict[str, list[str]] = {key: [] for key in ("", *(key for key in tree if key in chosen))}
    for name, value in names(tree):
        top = name.partition(".")[0]
        own[top if top in own else ""].append(_line(name, value, said.get(name, "")))
    lines = ["Options, with the values they have unless you set them:", *own.pop("")]
    for key, options in own.items():
        lines += ["", f"  {chosen[key]:{_WIDTH}}  {said.get(key, '')}".rstrip(), *options]
    return lines


def _line(name: str, value: Any, comment: str) -> str:
    if value == "???":
        return f"    {f'{name}=':{_WIDTH - 2}}  needed: {comment}"
    shown = str(value) if isinstance(value, _Given) else _as_yaml(value)
    return f"    {f'{name}={shown}':{_WIDTH - 2}}  {comment}".rstrip()


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump({"value": value}, default_flow_style=True, width=10_000)
    return text.strip().removeprefix("{value: ").removesuffix("}").replace(", ", ",")
