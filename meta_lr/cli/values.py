"""The values of a config against the signature that takes them: the annotation is the schema."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "null",
}
_PART = "a part with its own _target_"
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def refuse_misfits(config: DictConfig) -> None:
    """Raise a ValueError for the first value at or below `config` that its maker does not take.

    Numbers, words, truth values and lists of them are compared with the argument's annotation, and
    names with the signature. What is annotated as anything else is left to the maker.
    """
    target = _target(config)
    parameters = {} if target is None else inspect.signature(target).parameters
    hints = {} if target is None else _hints(target)
    for key in (str(key) for key in config if key not in ("_target_", "_partial_")):
        value = config[key]
        if target is not None and not _takes(parameters, key):
            takes = ", ".join(name for name in parameters if name in config) or "nothing"
            raise ValueError(
                f"{_name(config, key)} is no option of {target.__name__}, which takes {takes}"
            )
        if isinstance(value, DictConfig):
            refuse_misfits(value)
        elif not _fits(value, hints.get(key, Any)):
            shown = "null" if value is None else value
            raise ValueError(f"{_name(config, key)}={shown}; {_wanted(hints[key])} is needed")


def _target(config: DictConfig) -> Callable[..., Any] | None:
    """Return what `_target_` names; None if there is none, which making it will say."""
    try:
        return get_object(config["_target_"]) if "_target_" in config else None
    except (ImportError, ValueError):
        return None


def _hints(target: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except NameError:  # names that only a type checker imports
        return {}


def _takes(parameters: Mapping[str, inspect.Parameter], key: str) -> bool:
    return key in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _name(config: DictConfig, key: str) -> str:
    """Return the dotted name under which a value is set: that of its source, if it is `${...}`."""
    node = config._get_node(key)
    source = re.fullmatch(r"\$\{([\w.]+)\}", str(getattr(node, "_value", lambda: "")()))
    return source.group(1) if source else str(config._get_full_key(key))


def _fits(value: object, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in inner)
    if origin is Literal:
        return value in inner
    if origin in (tuple, list, Sequence):
        return isinstance(value, ListConfig) and all(_fits(item, inner[0]) for item in value)
    if hint is float:
        return type(value) in (int, float)
    if hint in _WORDS:
        return type(value) is hint
    kind = origin or hint
    if hint is Any or not inspect.isclass(kind) or getattr(kind, "_is_protocol", False):
        return True
    return isinstance(value, kind)


def _wanted(hint: Any) -> str:
    """Return in words what an annotation asks for."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        words = [_wanted(part) for part in inner]
        return " or ".join(word for word in words if word != _PART) or _PART
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (tuple, list, Sequence):
        return f"a list of {_PLURALS.get(inner[0], 'such values')}"
    return _WORDS.get(hint, _PART)
