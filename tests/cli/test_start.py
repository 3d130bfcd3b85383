"""How a command begins: help and mistakes come before Hydra or torch, a sign of life at once."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from meta_lr.cli.conf_files import ConfFiles
from meta_lr.cli.known import refuse_unknown
from meta_lr.cli.main import main

NEVER = {"torch", "hydra", "omegaconf", "rich", "matplotlib"}
HELP = [["train", "--help"], ["transfer", "task=image_folder", "--help"]]
NAMES = [
    ["train", "--epochs"],
    ["train", "epoch=3"],
    ["train", "lr=cosin"],
    ["train", "taks=mnist"],
    ["train", "lr"],
    ["train", "experiment=quickstart"],
    ["train", "-m", "lr=constant,cosin"],
]
VALUES = [
    ["train", "lr.peak=abc"],
    ["train", "seed=one"],
    ["train", "epochs=ten"],
    ["train", "clip=yes"],
    ["train", "average=3"],
    ["train", "device=null"],
    ["train", "model.hidden=3"],
    ["train", "model.hidden=[3,x]"],
    ["train", "optimizer.momentum=high"],
    ["train", "threads=99999999999999999999"],
    ["train", "task=image_folder"],
    ["train", "seed=0,1"],
    ["train", "~lr"],
    ["verify"],
    ["transfer", "seeds=[]"],
    ["meta-train", "lr.period=often"],
    ["meta-train-episodic", "updates=many"],
]


def loaded_after(commands, code, place):
    """Return which libraries are there after these commands, each of which exits with `code`."""
    program = (
        "import sys; from meta_lr.cli.main import main\n"
        f"for command in {commands!r}:\n"
        f"    assert main(command) == {code}, command\n"
        f"print(sorted({NEVER!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *told, loaded = done.stderr.splitlines()
    assert len(told) == (len(commands) if code else 0)
    return set(eval(loaded))


def test_help_and_unknown_names_need_no_library(tmp_path):
    assert loaded_after(HELP, 0, tmp_path) == set()
    assert loaded_after(NAMES, 2, tmp_path) == set()


def test_values_are_checked_before_torch_is_imported(tmp_path):
    assert not loaded_after(VALUES, 2, tmp_path) & {"torch", "rich", "matplotlib"}
    assert not list(Path(tmp_path).rglob("*.*"))


def test_what_a_sweep_chooses_may_have_other_options(capsys):
    files = ConfFiles()
    refuse_unknown("train", ["lr=constant,triexp", "lr.k0=0.1", "seed=0,1"], files)
    refuse_unknown("train", ["experiment=knee_cifar10,autolr_imagenet", "task.root=x"], files)
    refuse_unknown("train", ["lr=glob(tri*)", "hydra.run.dir=x", "hydra/launcher=basic"], files)
    refuse_unknown("train", ["+lr.period=3", "~logger", "lr=warmup", "lr@lr.inner=tri"], files)
    with pytest.raises(ValueError, match="unknown lr 'triex'"):
        refuse_unknown("train", ["lr=constant,triex"], files)
    with pytest.raises(ValueError, match="unknown option 'sed'"):
        refuse_unknown("train", ["lr=constant,triexp", "sed=1"], files)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("arguments", "starts"),
    [
        (["lr.peak=abc"], True),
        (["lr.peak=abc", "--help"], False),
        (["--cfg", "job"], False),
        (["epoch=3"], False),
    ],
)
def test_a_terminal_sees_at_once_that_a_command_starts(arguments, starts, capsys):
    with contextlib.redirect_stderr(Terminal()) as screen:
        main(["train", *arguments])
    assert screen.getvalue().startswith("meta-lr train: starting ...\n") == starts
    assert ("starting" in screen.getvalue()) == starts
