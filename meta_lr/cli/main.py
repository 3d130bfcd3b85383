"""`meta-lr COMMAND`: the list of commands, one place for errors, and the exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from meta_lr.cli.errors import did_you_mean, one_line
from meta_lr.cli.output import lasting_output
from meta_lr.cli.shown import shown_in_full
from meta_lr.extras import MissingPackageError, explained

CANNOT_SHOW = 2  # what was printed is lost: the disk of standard output is full

COMMANDS = {
    "meta-train": "learn a scheduler along one training run, and keep it as a checkpoint",
    "meta-train-episodic": "learn a scheduler from many short trainings, and keep it",
    "train": "train a model on a task with one learning-rate method",
    "transfer": "train a task with a checkpoint beside baselines, and compare them",
    "range-test": "sweep the rate once, and suggest a range of rates",
    "verify": "train with a policy only until it is known whether it reaches a target",
    "recommend": "find the best policies for a task, model, optimizer, budget and target",
    "compose": "build a composite policy phase by phase, and compare it",
    "check-hypergrad": "compare ways to the meta-gradient on your own task",
    "explain": "show what a checkpoint does with the loss, and distil it into a formula",
    "import-official": "make a checkpoint of the files that MLR-SNet's authors published",
    "report": "write tables, figures and an HTML page from the records in a folder",
    "results": "list what the store of results holds; import and export",
}

WITHOUT_CONFIG = ("report", "results", "explain", "import-official")  # argparse is enough

HELP = """\
usage: meta-lr COMMAND [key=value ...]

commands:
{commands}

examples:
  meta-lr meta-train experiment=quickstart        about 45 seconds, on data that is included
  meta-lr transfer experiment=quickstart_transfer about a minute
  meta-lr train lr=cosine lr.peak=0.3 epochs=20 seed=1
  meta-lr train -m seed=0,1,2 lr=constant,cosine  a sweep: one job per combination
  meta-lr report runs/train                       compares all that is in there

`meta-lr COMMAND --help` lists the options of a command, `meta-lr COMMAND --cfg job` its config.
`--full`, in any command, prints all tables at the end, not one.
A command that is repeated skips what is finished and resumes what is not.
Completion in bash: eval "$(meta-lr -sc install=bash)"; zsh and fish have it too.

exit codes: 0 done; 1 a job of a sweep failed, or check-hypergrad did not confirm; 2 a mistake in
what was asked, or a full disk; 3 the run diverged; 4 verify's target was not met; 130 or 143
interrupted, and saved. META_LR_DEBUG=1 shows where an error came from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake becomes one line on stderr, and 2.

    `argv` are the arguments after the program's name; None reads them from the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    full, arguments = "--full" in arguments, [a for a in arguments if a != "--full"]
    with lasting_output() as errors, shown_in_full(full):
        code = _code(arguments)
    return code or (CANNOT_SHOW if errors else 0)


def _code(arguments: list[str]) -> int:
    """Run the command, say in one line what was wrong, and return the exit code."""
    debugging = "1" in (os.environ.get("META_LR_DEBUG"), os.environ.get("HYDRA_FULL_ERROR"))
    try:
        with explained():
            return _dispatch(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        print("meta-lr: interrupted between runs; the same command goes on", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, MemoryError, MissingPackageError) as error:
        if debugging:
            raise
        print(f"meta-lr: {one_line(error)}", file=sys.stderr)
        return 2


def _dispatch(arguments: list[str]) -> int:
    """Import and run the command that `arguments` begin with; nothing heavy before it is known."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = (f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
        print(HELP.format(commands="\n".join(lines)))
        return 0
    if arguments[0] == "--version":
        from meta_lr import __version__

        print(f"meta-lr {__version__}")
        return 0
    if {"-sc", "--shell-completion"} & {*arguments}:
        from meta_lr.cli import completion

        return completion.completion(arguments, tuple(COMMANDS))
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        guess = did_you_mean(command, COMMANDS)
        known = f"unknown command '{command}'; the commands are {', '.join(COMMANDS)}"
        raise ValueError(f"{known}; {guess}" if guess else known)
    if command in WITHOUT_CONFIG:
        name = command.replace("-", "_")
        return getattr(import_module(f"meta_lr.cli.{name}"), name)(rest)
    return _under_hydra(command, rest)


def _under_hydra(command: str, arguments: list[str]) -> int:
    """Run a command that has a config; flags, choices and names are checked before Hydra loads."""
    from meta_lr.cli.conf_files import ConfFiles
    from meta_lr.cli.flags import parsed
    from meta_lr.cli.known import refuse_unknown
    from meta_lr.cli.options import help_of

    asked = parsed(command, arguments)
    files = ConfFiles((Path(asked.config_dir).resolve(),) if asked.config_dir else ())
    refuse_unknown(command, asked.overrides, files)
    if asked.help:
        print(help_of(command, asked.overrides, files))
        return 0
    if sys.stderr.isatty() and not (asked.cfg or asked.info):
        print(f"meta-lr {command}: starting ...", file=sys.stderr, flush=True)
    from meta_lr.cli import jobs

    return jobs.run(command, asked, files)
