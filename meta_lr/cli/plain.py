"""What the small tools with plain arguments share: their parser, and how they count."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Raises what argparse would print and exit with, under the command's name."""

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError that says where help is."""
        command = self.prog.removeprefix("meta-lr ")
        raise ValueError(f"{command}: {message} ({self.prog} --help)")


def counted(number: int, thing: str) -> str:
    """Return such as "1 run", "2 runs"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
