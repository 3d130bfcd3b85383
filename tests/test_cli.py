"""The command line: help, and what it says to a mistake, line by line."""

import contextlib
import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys

import pytest
import torch
import yaml

from meta_lr.cli import errors
from meta_lr.cli.main import COMMANDS, main
from meta_lr.schedulers.mlp import MLP
from meta_lr.training.record import locked
from tests.commands import META_LR, SMALL, outcome, own_place, runs, write_checkpoint


@pytest.fixture
def place(tmp_path, monkeypatch):
    return own_place(tmp_path, monkeypatch)


# ---------------------------------------------------------------------------------- help


def test_help_lists_the_commands_and_loads_nothing_heavy():
    code = (
        "import sys; from meta_lr.cli.main import main; main(['--help']); "
        "sys.exit(bool({'hydra', 'omegaconf', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, what in COMMANDS.items():
        assert name in done.stdout and what in done.stdout
    assert "meta-lr meta-train experiment=quickstart" in done.stdout


@pytest.mark.parametrize("command", ["meta-train", "train", "transfer"])
def test_help_of_a_command_shows_its_config_groups_and_options(command, capsys):
    code, out, _ = outcome(capsys, command, "--help")
    assert code == 0
    assert out.startswith(f"meta-lr {command}: ")
    for group in ("debug: tiny", "lr: constant, cosine, learned", "logger: jsonl, wandb"):
        assert group in out
    assert "experiment: " in out and "total_steps: null" in out


@pytest.mark.parametrize("command", ["meta-train", "train", "transfer"])
def test_a_config_can_be_shown_resolved(command, capsys):
    code, out, _ = outcome(capsys, command, "seed=7", "--cfg", "job", "--resolve")
    config = yaml.safe_load(out)
    assert code == 0
    assert config["task"]["seed"] == config["seed"] == 7
    assert "${" not in out


def test_help_of_report(capsys):
    code, out, _ = outcome(capsys, "report", "--help")
    assert code == 0
    assert "--reference METHOD" in out


# ---------------------------------------------------------------------------------- errors


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A folder of checkpoints, each broken in its own way, and of other wrong things."""
    place = tmp_path_factory.mktemp("broken")
    cut = write_checkpoint(place / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:100])
    newer = write_checkpoint(place / "newer") / "config.json"
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"format_version": 9}))
    other = write_checkpoint(place / "other") / "model.safetensors"
    shutil.copy(write_checkpoint(place / "of_mlp", net=MLP((3,))) / "model.safetensors", other)
    swapped = write_checkpoint(place / "swapped") / "model.safetensors"
    shutil.copy(write_checkpoint(place / "seed_1", seed=1) / "model.safetensors", swapped)
    torch.save({}, place / "old.pth")
    (place / "empty").mkdir()
    (place / "extra" / "experiment").mkdir(parents=True)
    (place / "full").write_text("")
    return place


LEARNED = ["train", "lr=learned"]
ERRORS = {
    "unknown command": (
        ["trian"],
        "unknown command 'trian'; the commands are meta-train, train, transfer, report; "
        "did you mean train?",
    ),
    "unknown flag": (
        ["train", "--epochs"],
        "unknown flag '--epochs'; options are written key=value, and the flags are --help, "
        "--cfg job, --resolve, -m, --config-dir and --info",
    ),
    "unknown option": (
        ["train", "epoch=3"],
        "unknown option 'epoch' of train; did you mean epochs=?",
    ),
    "unknown option of a method": (
        ["train", "lr=constant", "lr.milestones=[3]"],
        "unknown option 'lr.milestones' of train; meta-lr train --help lists them",
    ),
    "unknown method": (
        ["train", "lr=foo"],
        "unknown lr 'foo'; choose one of: <...>, cosine, learned, mlr_snet_online, <...>",
    ),
    "unknown baseline": (
        ["transfer", "checkpoint=seed_1", "baselines=[foo]"],
        "unknown lr 'foo'; choose one of: <...>, cosine, learned, mlr_snet_online, <...>",
    ),
    "unknown experiment": (
        ["train", "experiment=foo"],
        "unknown experiment 'foo'; choose one of: <...>, quickstart, quickstart_transfer<...>",
    ),
    "no key and value": (
        ["train", "lr"],
        "cannot read 'lr'; options are written key=value",
    ),
    "a list without -m": (
        ["train", "seed=0,1"],
        "seed=0,1 is several values; -m runs a job for each, [0,1] is a list",
    ),
    "a rate below zero": (
        ["train", "lr=constant", "lr.peak=-1"],
        "lr: Constant(peak=-1) is out of range; it needs a finite peak >= 0",
    ),
    "no such device": (
        ["train", "device=gpu"],
        "device=gpu cannot be used (<...>); pass device=cpu",
    ),
    "no length": (
        ["train", "epochs=null"],
        "neither epochs nor total_steps is set; pass one, such as epochs=10",
    ),
    "a word for a number": (
        ["train", "seed=one"],
        "seed=one; a whole number is needed, at least 0",
    ),
    "nothing to meta-train": (
        ["meta-train", "lr=cosine"],
        "lr=cosine learns nothing; meta-train takes lr=mlr_snet_online",
    ),
    "seeds that are no list of numbers": (
        ["transfer", "checkpoint=seed_1", "seeds=[]"],
        "seeds=[]; a list of whole numbers is needed, such as seeds=[0,1,2]",
    ),
    "a peak that is no number": (
        ["transfer", "checkpoint=seed_1", "tune.peaks=[0.1,high]"],
        "tune.peaks.1=high; a positive number is needed",
    ),
    "tuning on a seed that is compared": (
        ["transfer", "checkpoint=seed_1", "seeds=[1,2]", "tune.peaks=[0.1]", "tune.seed=2"],
        "tune.seed=2 is one of seeds=[1, 2]; tune with another one",
    ),
    "missing data": (
        ["train", "task=image_folder", "task.root=nowhere"],
        "task: there is nothing at root=nowhere (<...>/nowhere); needed are train/CLASS/*.jpg and "
        "one more directory, such as test/CLASS/*.jpg",
    ),
    "no data named": (["train", "task=image_folder"], "task.root is not set; pass task.root=..."),
    "no such checkpoint": (
        [*LEARNED, "lr.name=nothing"],
        "lr: no checkpoint 'nothing': not a folder, and bundled are: <...>",
    ),
    "an empty checkpoint": (
        [*LEARNED, "lr.name=empty"],
        "lr: empty/config.json is missing; a checkpoint is a folder of config.json and "
        "model.safetensors",
    ),
    "a truncated checkpoint": (
        [*LEARNED, "lr.name=cut"],
        "lr: cut/model.safetensors is damaged or cut short (<...>); copy the checkpoint again",
    ),
    "a checkpoint from a newer format": (
        [*LEARNED, "lr.name=newer"],
        "lr: newer/config.json has format 9, this meta_lr reads up to 1; install a newer meta_lr",
    ),
    "a checkpoint of another network": (
        [*LEARNED, "lr.name=other"],
        "lr: other/model.safetensors holds another network: stage0.x_down.weight is "
        "missing, but LSTM(hidden=4, <...>) needs (2, 1)",
    ),
    "a checkpoint with swapped weights": (
        [*LEARNED, "lr.name=swapped"],
        "lr: swapped: the weights are not those that config.json was written for; "
        "copy both files from the same checkpoint",
    ),
    "a pickle": (
        [*LEARNED, "lr.name=old.pth"],
        "lr: old.pth is a file; a checkpoint is a folder of config.json and model.safetensors "
        "(pickles such as .pt and .pth are not read)",
    ),
    "a checkpoint for another optimizer": (
        [*LEARNED, "lr.name=seed_1", "optimizer=adam"],
        "the checkpoint's rate was learned with sgd; this optimizer is adam: "
        "pass peak=, the rate at full output (to load_pretrained; in a command lr.peak= or "
        "learned.peak=)",
    ),
    "a report on nothing": (
        ["report", "empty"],
        "no records.jsonl with a run in it at or below 'empty'; "
        "pass the folder of a run, a sweep or a transfer",
    ),
    "a report without a folder": (
        ["report"],
        "report: the following arguments are required: folder (meta-lr report --help)",
    ),
}


def expected(line):
    """Return the pattern of a line of the table, where `<...>` stands for anything."""
    return ".*".join(re.escape(part) for part in f"meta-lr: {line}\n".split("<...>"))


@pytest.mark.parametrize("name", ERRORS)
def test_a_mistake_is_one_line_and_exit_code_2(name, broken, monkeypatch, capsys):
    arguments, line = ERRORS[name]
    monkeypatch.chdir(broken)
    code, out, err = outcome(capsys, *arguments)
    assert code == 2
    assert re.fullmatch(expected(line), err), err
    assert not out
    assert not list(broken.glob("runs/**/records.jsonl"))


def _slow_unless(quick):
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in ERRORS]


@pytest.mark.parametrize("name", _slow_unless(("unknown command", "unknown method")))
def test_the_real_command_says_the_same(name, broken):
    arguments, line = ERRORS[name]
    done = subprocess.run([*META_LR, *arguments], cwd=broken, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(expected(line), done.stderr), done.stderr


def test_debugging_shows_where_an_error_came_from(broken, monkeypatch):
    monkeypatch.chdir(broken)
    monkeypatch.setenv("META_LR_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown lr 'foo'"):
        main(["train", "lr=foo"])


def test_an_existing_run_that_is_locked(place, capsys):
    assert outcome(capsys, "train", *SMALL)[0] == 0
    folder = runs(place)[0]
    with locked(folder):
        code, _, err = outcome(capsys, "train", *SMALL)
    name = folder.relative_to(place)
    assert code == 2
    assert err == (
        f"meta-lr: {name} is in use by process {os.getpid()}; "
        "wait for it, stop it, or run elsewhere\n"
    )


@contextlib.contextmanager
def little_room(size):
    """Let no file of this process grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("what", "task", "size"),
    [("records.jsonl", "quadratic", 1_500), ("state.pt.partial", "digits", 50_000)],
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(place, capsys, what, task, size):
    arguments = ["train", f"task={task}", "lr=constant", "total_steps=8", "save_every=2"]
    with little_room(size):
        code, _, err = outcome(capsys, *arguments)
    assert code == 2
    assert re.fullmatch(
        r"meta-lr: (\S+: )?the file may not grow any further; "
        r"make room, and the same command goes on\n",
        err,
    ), err
    assert (runs(place)[0] / what).stat().st_size <= size
    code, out, _ = outcome(capsys, *arguments)
    assert code == 0
    assert "finished after 8 steps" in out


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left", "a/b"), "a/b: the disk is full; make room, "),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "x: no such file or"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: permission denied"),
        (ValueError("two\n  lines"), "two lines"),
        (TypeError(), "TypeError"),
    ],
)
def test_an_error_in_one_line(error, line):
    assert errors.one_line(error).startswith(line)
    assert "\n" not in errors.one_line(error)
