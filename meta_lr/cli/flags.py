"""The arguments of a command: argparse reads the flags, wherever they stand."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from os.path import isdir
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Raises what argparse would print and exit with, under the command's name."""

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError that says where help is."""
        command = self.prog.removeprefix("meta-lr ")
        raise ValueError(f"{command}: {message} ({self.prog} --help)")


def parsed(command: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the overrides and the flags of a command that Hydra runs.

    Raises:
        ValueError: A flag is unknown, or lacks its value.
    """
    parser = Parser(prog=f"meta-lr {command}", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    for flags in (("--help", "-h"), ("--multirun", "-m"), ("--resolve",)):
        parser.add_argument(*flags, action="store_true")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    about = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=about)
    for flags in (("--package", "-p"), ("--config-dir", "-cd")):
        parser.add_argument(*flags)
    asked = parser.parse_intermixed_args(arguments)
    if asked.resolve and not asked.cfg:
        parser.error("--resolve goes with --cfg")
    if asked.config_dir and not isdir(asked.config_dir):
        parser.error(f"there is no folder --config-dir {asked.config_dir}")
    return asked


def counted(number: int, thing: str) -> str:
    """Return such as "1 run", "2 runs"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
