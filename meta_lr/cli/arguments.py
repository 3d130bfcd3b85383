"""What can be said about the arguments of a command before Hydra composes a config from them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import takewhile, zip_longest
from os.path import isfile

from meta_lr.cli.places import conf_dir

_FLAGS = (
    "--help -h --hydra-help --cfg -c --resolve --package -p --run -r --multirun -m --info -i "
    "--config-dir -cd --shell-completion -sc"
).split()
_CONFIGS = ("job", "hydra", "all")
_ABOUT = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# The flags that take a value, with the values that there are; () is any.
_WITH_VALUE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("--cfg", "-c"), _CONFIGS),
    **dict.fromkeys(("--info", "-i"), _ABOUT),
    **dict.fromkeys(("--package", "-p", "--config-dir", "-cd"), ()),
}
_OPTIONAL = ("--info", "-i")  # may stand without its value


def refuse_unknown_flags(arguments: Sequence[str]) -> None:
    """Raise a ValueError for the first flag that there is not, or that lacks its value."""
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        flag, equals, value = argument.partition("=")
        if flag.startswith("-") and flag not in _FLAGS:
            raise ValueError(
                f"unknown flag '{argument}'; options are written key=value, "
                "and the flags are --help, --cfg job, --resolve, -m, --config-dir and --info"
            )
        if flag in _WITH_VALUE:
            given = value if equals else "" if following.startswith("-") else following
            _refuse_value(flag, given, _WITH_VALUE[flag])


def _refuse_value(flag: str, value: str, known: Sequence[str]) -> None:
    if known and value not in known and not (flag in _OPTIONAL and (not value or "=" in value)):
        raise ValueError(f"{flag} needs one of {', '.join(known)}, such as {flag} {known[0]}")
    if not known and (not value or "=" in value):
        raise ValueError(f"{flag} needs a value after it, such as {flag} NAME")


def flags_last(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the flags at the end: Hydra wants the overrides in one piece."""
    overrides, flags, takes = [], [], False
    for argument in arguments:
        flag = argument.startswith("-")
        (flags if flag or (takes and "=" not in argument) else overrides).append(argument)
        takes = argument in _WITH_VALUE
    return [*overrides, *flags]


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that are overrides, without the flags."""
    return list(takewhile(lambda argument: not argument.startswith("-"), flags_last(arguments)))


def refuse_other_experiments(command: str, arguments: Sequence[str]) -> None:
    """Raise a ValueError for an experiment that was made for another command."""
    for argument in arguments:
        group, _, names = argument.lstrip("+").partition("=")
        for name in names.split(",") if group == "experiment" else ():
            wanted = experiment_command(name)
            if wanted and wanted[1] != command:
                raise ValueError(
                    f"experiment={name} is made for meta-lr {wanted[1]}, not for {command}; "
                    f"run it as {shlex.join(wanted)}"
                )


def experiment_command(name: str) -> list[str]:
    """Return the command in the second line of an experiment's file, in words; empty if none."""
    path = conf_dir() / "experiment" / f"{name}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines() if isfile(path) else []
    words = shlex.split(lines[1].removeprefix("#")) if len(lines) > 1 else []
    return words if words[:1] == ["meta-lr"] and len(words) > 1 else []
