"""What the small tools with plain arguments share: their parser, and how they print."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Raises what argparse would print and exit with, under the command's name."""

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError that says where help is."""
        command = self.prog.removeprefix("meta-lr ")
        raise ValueError(f"{command}: {message} ({self.prog} --help)")


def say(text: str) -> None:
    """Print `text`; whoever reads it may stop early, as `head` does."""
    try:
        print(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # what is still buffered goes nowhere, or the interpreter would complain when it leaves
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def counted(number: int, thing: str) -> str:
    """Return such as "1 run", "2 runs"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
