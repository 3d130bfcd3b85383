"""The config files of a command, found and merged as Hydra does, but without it: --help is fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from meta_lr.cli.errors import unknown_choice
from meta_lr.methods.policies.examples import EXAMPLES

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_POLICY = "meta_lr.methods.policies.formula.Policy"


def conf_dir() -> Path:
    """Return the folder of config files: inside an installed package, else beside it."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@dataclass(frozen=True)
class Part:
    """One config file of a command.

    Attributes:
        key: The section of its options, such as "task"; "" for the top.
        choice: What chooses it, such as "task=digits"; "" for the command's own files.
        values: Its options.
        comments: What it says beside them, by dotted name, and of itself as "".
    """

    key: str
    choice: str
    values: dict[str, Any]
    comments: dict[str, str]


@dataclass(frozen=True)
class ConfFiles:
    """The config files in some folders; the first folder that has a file counts."""

    folders: tuple[Path, ...] = ()

    def choices(self, group: str) -> list[str]:
        """Return the choices of a group, such as "lr"; none if it is no group."""
        files = [path for folder in self._folders() for path in (folder / group).glob("*.yaml")]
        return sorted({*(path.stem for path in files), *(EXAMPLES if group == "lr" else ())})

    def groups(self) -> list[str]:
        """Return the names of the groups."""
        found = {path.name for folder in self._folders() for path in folder.iterdir()}
        return [name for name in sorted(found - {"hydra"}) if self.choices(name)]

    def parts(self, command: str, overrides: Sequence[str] = ()) -> list[Part]:
        """Return the files of a command in the order in which Hydra merges them.

        Of the overrides those that choose a file count, such as "task=mnist".

        Raises:
        ValueError: A choice is unknown.
        """
        pairs = (override.lstrip("+").partition("=") for override in overrides)
        chosen = {name: value.strip("'\"") for name, _, value in pairs}
        return self._parts(command.replace("-", "_"), "", "", chosen)

    def _folders(self) -> tuple[Path, ...]:
        return (*self.folders, conf_dir())

    def _parts(self, config: str, key: str, choice: str, chosen: dict[str, str]) -> list[Part]:
        """Return a file and those in its list of defaults, from the last to the first.

        A later one may override the choices of an earlier one, and the command line all of them.
        """
        group, _, name = config.rpartition("/")
        text = self._text(config)
        if text is None and not (group == "lr" and name in EXAMPLES):
            raise ValueError(unknown_choice(group, name, self.choices(group)))
        key = "" if text and text.startswith("# @package _global_") else key
        part = policy(name, key, choice) if text is None else _part(text, key, choice)
        defaults = part.values.pop("defaults", [])
        entries = [entry for entry in defaults if isinstance(entry, dict)]
        for name, value in (item for entry in entries for item in entry.items()):
            if name.startswith("override /"):
                chosen.setdefault(name.removeprefix("override /"), value)
        found: list[Part] = []
        for entry in reversed(defaults if "_self_" in defaults else [*defaults, "_self_"]):
            inner = [part] if entry == "_self_" else self._default(entry, group, key, chosen)
            found = [*inner, *found]
        return found

    def _default(self, entry: Any, group: str, key: str, chosen: dict[str, str]) -> list[Part]:
        """Return the files that an entry of a list of defaults brings in."""
        if isinstance(entry, str):
            return self._parts(f"{group}/{entry}".lstrip("/"), key, "", chosen)
        ((name, value),) = entry.items()
        if name.startswith("override "):
            return []
        path, _, package = name.partition("@")
        path = path[1:] if path.startswith("/") else f"{group}/{path}".lstrip("/")
        section = f"{key}.{package or path.replace('/', '.')}".lstrip(".")
        section = package.removeprefix("_global_.") if package.startswith("_global_") else section
        title = path if section == path else f"{path}@{section}"
        value = chosen.get(title, value)
        found: list[Part] = []
        for name in reversed([] if value in (None, "null", "") else value.strip("[]").split(",")):
            found = [*self._parts(f"{path}/{name}", section, f"{title}={name}", chosen), *found]
        return found

    def _text(self, config: str) -> str | None:
        paths = (folder / f"{config}.yaml" for folder in self._folders())
        path = next((path for path in paths if path.is_file()), None)
        return None if path is None else path.read_text(encoding="utf-8")


choices = ConfFiles().choices  # of a group in the files that come with meta_lr


def merged(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the options of all parts as one tree."""
    tree: dict[str, Any] = {}
    for part in parts:
        section = tree
        for key in filter(None, part.key.split(".")):
            section = section.setdefault(key, {})
        _merge(section, part.values)
    return tree


def names(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted names of the options in a tree, each with its value.

    What only passes another option on, such as `${seed}`, is left out.
    """
    for key, value in tree.items():
        if isinstance(value, dict) and not key.startswith("_"):
            yield from names(value, f"{prefix}{key}.")
        elif not key.startswith("_") and "${" not in str(value):
            yield f"{prefix}{key}", value


def above(text: str) -> list[str]:
    """Return the lines of the comment that a YAML file begins with, without `@package`."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return [line for line in lines if not line.startswith("@package")]


def beside(text: str) -> dict[str, str]:
    """Return the comments at the ends of a YAML file's lines, by the dotted name they stand by."""
    root = yaml.compose(text, _LOADER)
    return dict(_beside(root, text.splitlines(), "")) if isinstance(root, yaml.MappingNode) else {}


def _part(text: str, key: str, choice: str) -> Part:
    comments = {"": " ".join(above(text)[:1]), **beside(text)}
    return Part(key, choice, yaml.load(text, _LOADER) or {}, comments)


def policy(name: str, key: str = "lr", choice: str = "") -> Part:
    """Return what a file of one of LRBench's policies would say: they come from a table."""
    values = {"_target_": _POLICY, "kind": name}
    comments = {"": EXAMPLES[name].summary, "kind": f"one of LRBench's {len(EXAMPLES)} shapes"}
    for option, (value, comment) in EXAMPLES[name].options.items():
        values[option], comments[option] = value, comment
    return Part(key, choice, values, comments)


def _merge(tree: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, dict) else value


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
