"""Whether options have the right kind of value: by the config files first, which needs no torch.

Then, before a part is built, by the signature of what its options go to.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from meta_lr.cli.errors import one_line
from meta_lr.cli.overrides import typed

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "null",
}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
_PART = "a part with its own _target_"
_OF_HYDRA = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
_TOO_LARGE = 2**63  # for a whole number in torch
_WHERE_NULL: dict[str, type] = {  # what a command's own option takes whose default is null
    "checkpoint": str,
    **dict.fromkeys(("epochs", "total_steps", "threads"), int),
    **dict.fromkeys(("clip", "peak", "k0", "k1", "high", "range.high"), float),
}


def refuse_wrong_values(
    cfg: DictConfig, defaults: Mapping[str, Any], said: Mapping[str, str], prefix: str = ""
) -> None:
    """Raise a ValueError for the first value of another kind than the one in the config files.

    `defaults` is what the config files have there, and `said` what they say of each option, by its
    dotted name, which begins with `prefix`.
    """
    for key, default in sorted(defaults.items(), key=lambda item: isinstance(item[1], dict)):
        if key.startswith("_"):
            continue
        name = f"{prefix}{key}"
        if OmegaConf.is_missing(cfg, key):
            raise ValueError(
                f"{name} is not set; pass {name}=..., {said.get(name, 'it is needed')}"
            )
        if "${" in str(default) and not isinstance(default, dict):
            continue
        if key in cfg and not isinstance(default, dict):
            _refuse_unlike(name, cfg[key], default)
        elif isinstance(section := cfg.get(key), DictConfig):
            refuse_wrong_values(section, default, said, f"{name}.")
        elif isinstance(default, dict) and not prefix:
            raise ValueError(f"{name}={_shown(section)}; it is needed, as a section of options")


def refuse_misfits(config: DictConfig) -> None:
    """Raise a ValueError for the first value at or below `config` that its maker does not take.

    Numbers, words, truth values and lists of them are compared with the argument's annotation.
    What is annotated as anything else is left to the maker.
    """
    target = target_of(config)
    hints = {} if target is None else _hints(target)
    for key in (str(key) for key in config if key not in _OF_HYDRA):
        value, hint = config[key], hints.get(key, Any)
        if isinstance(value, DictConfig):
            refuse_misfits(value)
        if not isinstance(value, DictConfig) or "_target_" not in value or hint in _WORDS:
            refuse_misfit(_name(config, key), value, hint)


def refuse_misfit(name: str, value: object, hint: Any) -> None:
    """Raise a ValueError if `value`, which is set under `name`, is not what `hint` says."""
    if _fits(value, hint):
        return
    shown, how = _shown(value), ""
    if type(value) is int and abs(value) >= _TOO_LARGE:
        raise ValueError(f"{name}={shown}; a smaller number is needed")
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
    try:
        return get_object(path)
    except Exception as error:  # whatever the import of a user's own module raises
        cause = error.__cause__ or error
        raise ValueError(f"{place}={path} cannot be imported ({one_line(cause)})") from error


def _refuse_unlike(name: str, value: object, default: object) -> None:
    """Raise a ValueError if a value is of another kind than the default."""
    kind = _WHERE_NULL.get(name, Any) if default in (None, "???") else type(default)
    if name == "seeds" and value == []:
        raise ValueError("seeds=[]; a list of whole numbers is needed, such as seeds=[0,1,2]")
    if isinstance(default, list) and isinstance(value, ListConfig):
        for index, item in enumerate(value):
            _refuse_unlike(f"{name}.{index}", item, default[0] if default else None)
        return
    if isinstance(default, list):
        kind = Sequence[type(default[0]) if default else Any]
    if not _left_to_maker(value, default, kind):
        refuse_misfit(name, value, kind)


def _left_to_maker(value: object, default: object, kind: Any) -> bool:
    """Return whether only the maker knows if a value fits: null, a part, another kind of number."""
    if value is None:
        return default is None or kind not in (bool, str)
    if isinstance(value, DictConfig) and "_target_" in value:
        return True
    numbers = kind in (int, float) and type(value) in (int, float)
    return numbers and abs(cast(float, value)) < _TOO_LARGE


def _shown(value: object) -> str:
    """Return a value in a message; of a huge number its first digits."""
    shown = "null" if value is None else str(value)
    return f"{shown[:20]}..." if isinstance(value, int) and len(shown) > 24 else shown


def _hints(target: Callable[..., Any]) -> Mapping[str, Any]:
    """Return annotations by name; a class inherits fields whose names only its base imports."""
    for annotated in (target.__init__, target) if inspect.isclass(target) else (target,):
        with suppress(NameError, TypeError):  # what only a type checker imports; what is C
            return get_type_hints(annotated)
    return {}


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
        kind = _PLURALS.get(inner[0])
        return f"a list of {kind}" if kind else "a list"
    return _WORDS.get(hint, _PART)
