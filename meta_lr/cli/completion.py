"""Shell completion: Hydra's, which completes the options of one config, for all commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import hydra
from hydra.core.global_hydra import GlobalHydra

from meta_lr.cli.conf_files import conf_dir

_ACTIONS = ("install", "uninstall", "query")
_SHELLS = ("bash", "zsh", "fish")


def completion(arguments: Sequence[str], commands: Sequence[str]) -> int:
    """Print the script that a shell evaluates, or answer its query; return 0.

    Args:
        arguments: Those of the program; one says what to do, such as "install=bash".
        commands: All that there are.

    Raises:
        ValueError: No argument says what to do.
    """
    given = [argument.partition("=") for argument in arguments]
    asked = [(action, shell) for action, _, shell in given if action in _ACTIONS]
    if len(asked) != 1 or asked[0][1] not in _SHELLS:
        raise ValueError(
            f"-sc needs install= or uninstall= and one of {', '.join(_SHELLS)}; "
            'in bash: eval "$(meta-lr -sc install=bash)"'
        )
    action, shell = asked[0]
    if action == "query":
        with suppress(Exception):  # what is half typed may be no config; the prompt stays clean
            _query(shell, commands)
    else:
        _ask_hydra("train", f"{action}={shell}")  # the same script, whatever the config
    return 0


def _query(shell: str, commands: Sequence[str]) -> None:
    """Print how the line in COMP_LINE, up to the cursor, may go on, as Hydra does."""
    line = os.environ["COMP_LINE"]
    words = line[: int(os.environ.get("COMP_POINT", len(line)))].split(maxsplit=1)[1:]
    command, space, rest = (words[0] if words else "").partition(" ")
    if not space:
        print("\n".join(name for name in commands if name.startswith(command)))
    elif (conf_dir() / f"{command.replace('-', '_')}.yaml").is_file():
        os.environ["COMP_LINE"] = f"meta-lr {rest}"
        _ask_hydra(command.replace("-", "_"), f"query={shell}")


def _ask_hydra(config_name: str, action: str) -> None:
    """Let Hydra's plugin for the shell print what it has to say, for a program `meta-lr`."""
    program, sys.argv[0] = sys.argv[0], "meta-lr"
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            found = GlobalHydra.instance().hydra
            assert found is not None
            found.shell_completion(config_name, [action])
    finally:
        sys.argv[0] = program
