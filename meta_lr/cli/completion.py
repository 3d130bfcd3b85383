"""Shell completion: Hydra's, which completes the options of one config, for all commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from meta_lr.cli.conf_files import conf_dir
from meta_lr.cli.jobs import through_hydra

_ACTIONS = ("install", "uninstall", "query")


def completion(arguments: Sequence[str], commands: Sequence[str]) -> int:
    """Print the script that a shell evaluates, or answer its query; return 0.

    One of the program's `arguments` says what to do, such as "install=bash".

    Raises:
        ValueError: None of them does.
    """
    asked = [each for each in arguments if each.partition("=")[0] in _ACTIONS]
    if asked and asked[0].startswith("query="):
        with suppress(Exception):  # what is half typed may be no config; the prompt stays clean
            _query(asked[0], commands)
    else:
        _ask_hydra("train", asked)  # the same script, whatever the config
    return 0


def _query(asked: str, commands: Sequence[str]) -> None:
    """Print how the line in COMP_LINE, up to the cursor, may go on, as Hydra does."""
    line = os.environ["COMP_LINE"]
    words = line[: int(os.environ.get("COMP_POINT", len(line)))].split(maxsplit=1)[1:]
    command, space, rest = (words[0] if words else "").partition(" ")
    if not space:
        print("\n".join(name for name in commands if name.startswith(command)))
    elif (conf_dir() / f"{command.replace('-', '_')}.yaml").is_file():
        os.environ["COMP_LINE"] = f"meta-lr {rest}"
        _ask_hydra(command, [asked])


def _ask_hydra(command: str, asked: list[str]) -> None:
    """Let Hydra's plugin for the shell print what it has to say, for a program `meta-lr`."""
    through_hydra(command, ["--shell-completion", *asked], lambda cfg: None)
