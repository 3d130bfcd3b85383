"""Whether the config files know the choices and options that were asked for; no Hydra is needed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from meta_lr.cli.conf_files import ConfFiles, merged, names
from meta_lr.cli.errors import did_you_mean, unknown_choice
from meta_lr.cli.options import experiment_command

_HOW = "options are written key=value, and a value with blanks is quoted: 'key=a b'"


def refuse_unknown(command: str, overrides: Sequence[str], files: ConfFiles) -> None:
    """Raise a ValueError for the first choice or option that the config files do not have.

    What is added or removed (`+key=`, `~key`) is left to Hydra, as is the grammar of values.
    """
    chosen, swept, options = [], set(), []
    for override in overrides:
        name, equals, value = override.lstrip("+").partition("=")
        if not equals and name[:1] != "~":
            raise ValueError(f"cannot read '{override}'; {_HOW}")
        group = name.partition("@")[0]
        known = [] if group.startswith("hydra/") else files.choices(group)  # plugins add some
        if known:
            _refuse_choice(command, name, value, known)
            one = value in known or value.startswith("[")
            chosen += [override] if one else []
            swept |= set() if one else {name.rpartition("@")[2]}
        elif value.startswith("glob("):
            raise ValueError(f"{override}; glob() is for groups, such as lr=glob(tri*)")
        elif override[:1] not in ("+", "~"):
            options.append(name)
    if swept & {"experiment", "debug"}:  # each may choose anything else
        return
    tree = {k: v for k, v in merged(files.parts(command, chosen)).items() if k != "hydra"}
    for name in options:
        if name.partition(".")[0] not in swept and not _is_there(name, tree):
            guess = did_you_mean(name, [*dict(names(tree)), *files.groups()], "{}=")
            how = guess or f"meta-lr {command} --help lists them"
            raise ValueError(f"unknown option '{name}' of {command}; {how}")


def _refuse_choice(command: str, group: str, value: str, known: Sequence[str]) -> None:
    """Raise a ValueError for an unknown name, also one of several; functions are Hydra's."""
    if not re.fullmatch(r"[^(){}$]*", value):
        return
    for name in (word.strip("[] '\"") for word in value.split(",")):
        if name not in known:
            raise ValueError(unknown_choice(group, name, known))
        wanted = experiment_command(name) if group == "experiment" else []
        if wanted and wanted[1] != command:
            raise ValueError(
                f"experiment={name} is made for meta-lr {wanted[1]}, not for {command}; "
                f"run it as {shlex.join(wanted)}"
            )


def _is_there(name: str, tree: Mapping[str, Any]) -> bool:
    within: Any = tree
    for key in name.split("."):
        if not isinstance(within, Mapping) or key not in within:
            return name.startswith(("hydra.", "hydra/"))
        within = within[key]
    return True
