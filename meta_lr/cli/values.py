"""The values of a config against the signature that takes them: the annotation is the schema."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig

from meta_lr.cli.errors import one_line
from meta_lr.cli.overrides import typed

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "null",
}
_OF_HYDRA = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
_TOO_LARGE = 2**63  # for a whole number in torch
_PART = "a part with its own _target_"
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def refuse_misfits(config: DictConfig) -> None:
    """Raise a ValueError for the first value at or below `config` that its maker does not take.

    Numbers, words, truth values and lists of them are compared with the argument's annotation, and
    names with the signature. What is annotated as anything else is left to the maker.
    """
    target = target_of(config)
    parameters = {} if target is None else _parameters(target)
    hints = {} if target is None else _hints(target)
    for key in (str(key) for key in config if key not in _OF_HYDRA):
        value = config[key]
        if target is not None and not _takes(parameters, key):
            takes = ", ".join(name for name in parameters if name in config) or "nothing"
            raise ValueError(
                f"{_name(config, key)} is no option of {_called(target)}, which takes {takes}"
            )
        if isinstance(value, DictConfig):
            refuse_misfits(value)
        hint = hints.get(key, Any)
        if not isinstance(value, DictConfig) or "_target_" not in value or hint in _WORDS:
            refuse_misfit(_name(config, key), value, hint)
    for key in _needed(config, parameters):
        raise ValueError(f"{_name(config, key)} was left out, and {_called(target)} needs it")


def refuse_misfit(name: str, value: object, hint: Any) -> None:
    """Raise a ValueError if `value`, which is set under `name`, is not what `hint` says."""
    if _fits(value, hint):
        return
    shown = "null" if value is None else str(value)
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        short = shown if len(shown) <= 24 else f"{shown[:20]}..."
        raise ValueError(f"{name}={short}; a smaller number is needed")
    how = ""
    if _fits("", hint) and isinstance(value, (int, float)):
        how = f": {typed(name, shown)}"
    elif _fits(ListConfig([value]), hint):
        how = f": {name}=[{shown}]"
    raise ValueError(f"{name}={shown}; {_wanted(hint)} is needed{how}")


def target_of(config: DictConfig) -> Callable[..., Any] | None:
    """Return what `_target_` names, or None without one; raise a ValueError if it names nothing."""
    if "_target_" not in config:
        return None
    path, place = config["_target_"], config._get_full_key("_target_")
    if not isinstance(path, str):
        raise ValueError(f"{place}={path}; the dotted name of a class or a function is needed")
    if "_args_" in config:  # a part's arguments have names in all of the config files
        raise ValueError(f"{config._get_full_key('_args_')}: set each argument by its name instead")
    for flag in ("_partial_", "_recursive_"):
        if type(config.get(flag, False)) is not bool:
            raise ValueError(f"{config._get_full_key(flag)} is neither true nor false")
    try:
        target = get_object(path)
    except Exception as error:  # whatever the import of a user's own module raises
        cause = error.__cause__ or error
        raise ValueError(f"{place}={path} cannot be imported ({one_line(cause)})") from error
    if not callable(target):
        raise ValueError(f"{place}={path} is neither a class nor a function")
    return target


def _called(target: Callable[..., Any] | None) -> str:
    return getattr(target, "__name__", str(target))


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (ValueError, TypeError):  # of what is written in C: anything may fit
        return {"kwargs": inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}


def _needed(config: DictConfig, parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Return the arguments that have no default and no value; a partial gets the rest later."""
    if config.get("_partial_", False):
        return []
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = (n for n, p in parameters.items() if p.kind in plain and p.default is p.empty)
    return [name for name in needed if name not in config]


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
        return isinstance(value, ListConfig) and _all_fit(list(value), inner)
    if type(value) is int and abs(value) >= _TOO_LARGE and hint is not Any:
        return False
    if hint is float:
        return type(value) in (int, float)
    if hint in _WORDS:
        return type(value) is hint
    kind: object = origin or hint
    checked = (
        isinstance(kind, type) and kind is not Any and not getattr(kind, "_is_protocol", False)
    )
    return not checked or isinstance(value, cast(type, kind))


def _all_fit(items: list[object], hints: tuple[Any, ...]) -> bool:
    """Return whether a list fits a tuple's annotations: any number of one kind, or so many."""
    several = len(hints) > 1 and hints[-1] is not ...
    hints = hints if several else hints[:1] * len(items)
    return len(items) == len(hints) and all(map(_fits, items, hints))


def _wanted(hint: Any) -> str:
    """Return in words what an annotation asks for."""
    origin = get_origin(hint)
    inner: tuple[Any, ...] = get_args(hint)
    if origin in (Union, types.UnionType):
        words = [_wanted(part) for part in inner]
        return " or ".join(word for word in words if word != _PART) or _PART
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (tuple, list, Sequence):
        first, *more = inner
        number = f"{len(inner)} " if more and more[-1] is not ... else ""
        return f"a list of {number}{_PLURALS.get(first, 'such values')}"
    return _WORDS.get(hint, _PART)
