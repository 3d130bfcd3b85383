"""The command line: what help shows, and that it comes from the config files themselves."""

import re
import subprocess
import sys

import pytest
import yaml

from meta_lr.cli.conf_files import above, beside, conf_dir
from meta_lr.cli.flags import parsed
from meta_lr.cli.main import COMMANDS
from tests.commands import outcome

COMPOSED = ["meta-train", "train", "transfer"]
# groups of which every option has its comment
EXPLAINED = ["lr", "optimizer", "task", "model", "net", "features", "estimator", "problems"]
EXPLAINED += ["objective", "window", "logger"]


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


@pytest.mark.parametrize("command", COMPOSED)
def test_help_of_a_command_shows_its_choices_and_options(command, capsys):
    code, out, _ = outcome(capsys, command, "--help")
    assert code == 0
    assert out.startswith(f"meta-lr {command}: ")
    for group in (
        "debug: tiny",
        "lr: autodrop, autodrop_epochs, autolr, autolrs, autolrs_paper, change_on_plateau, ",
        "logger: jsonl, wandb",
    ):
        assert f"\n  {group}" in out
    assert re.search(r"\n    epochs=\d+ +length of a run in passes over the training data\n", out)
    assert "_target_" not in out and "_partial_" not in out and "${" not in out


@pytest.mark.parametrize("command", COMPOSED)
def test_help_shows_each_option_that_can_be_set(command, capsys):
    _, out, _ = outcome(capsys, command, "--help")
    _, config, _ = outcome(capsys, command, "--cfg", "job")
    shown = set(re.findall(r"^    ([a-z][\w.]+)=", out, re.MULTILINE))
    assert shown == set(settable(yaml.safe_load(config)))


def settable(config, prefix=""):
    """Yield the dotted names of all values that are neither for Hydra nor set elsewhere."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from settable(value, f"{prefix}{key}.")
        elif not key.startswith("_") and not str(value).startswith("${"):
            yield f"{prefix}{key}"


def test_help_shows_the_options_of_what_was_chosen_with_their_comments(capsys):
    choices = ["task=image_folder", "model=wrn28_10", "logger=wandb", "epochs=7"]
    _, out, _ = outcome(capsys, "train", *choices, "--help")
    assert re.search(r"\n    epochs=7 ", out)
    for group, choice in (choice.split("=") for choice in choices[:3]):
        text = (conf_dir() / group / f"{choice}.yaml").read_text(encoding="utf-8")
        assert re.search(rf"\n  {group}={choice} +{re.escape(above(text)[0])}\n", out)
        for name, comment in beside(text).items():
            needed = "needed: " if yaml.safe_load(text)[name] == "???" else ""
            pattern = rf"\n    {group}\.{name}=\S* +{needed}{re.escape(comment)}\n"
            assert re.search(pattern, out), (name, comment)


def test_help_lists_the_experiments_of_the_command_with_what_they_say(capsys):
    _, out, _ = outcome(capsys, "meta-train", "--help")
    text = (conf_dir() / "experiment" / "quickstart.yaml").read_text(encoding="utf-8")
    command, first, *_ = above(text)
    assert f"\n  {command}\n      {first}\n" in out
    assert "experiment=quickstart_transfer" not in out
    assert "Experiments of this command: none" in outcome(capsys, "verify", "--help")[1]


FILES = sorted(path for group in EXPLAINED for path in (conf_dir() / group).glob("*.yaml"))


@pytest.mark.parametrize("path", [conf_dir() / "base.yaml", *FILES], ids=lambda p: p.stem)
def test_every_option_has_its_comment_in_its_own_file(path):
    text = path.read_text(encoding="utf-8")
    config = {k: v for k, v in yaml.safe_load(text).items() if k not in ("defaults", "hydra")}
    assert not set(settable(config)) - set(beside(text))
    assert above(text), "what the file is"


def test_comments_are_read_as_they_stand():
    text = (
        "# @package _global_\n# What it is.\n# More.\na: 1  # one\nb: [1, 2] # two, # too\n"
        'c: "# no"\nd:  # four\n  e: null # five\n  f:\n    - 1\n    - 2  # it\ng: ???  # six\n'
    )
    assert above(text) == ["What it is.", "More."]
    assert beside(text) == {"a": "one", "b": "two, # too", "d": "four", "d.e": "five", "g": "six"}


def test_flags_go_anywhere():
    given = ["seed=1", "--cfg", "job", "lr=cosine", "-m", "--config-dir=.", "epochs=2"]
    asked = parsed("train", given)
    assert asked.overrides == ["seed=1", "lr=cosine", "epochs=2"]
    assert (asked.cfg, asked.multirun, asked.config_dir) == ("job", True, ".")


@pytest.mark.parametrize("command", COMPOSED)
def test_a_config_can_be_shown_resolved(command, capsys):
    seed = "seeds=[7]" if command == "transfer" else "seed=7"
    code, out, _ = outcome(capsys, command, seed, "--cfg", "job", "--resolve")
    config = yaml.safe_load(out)
    assert code == 0
    assert config["task"]["seed"] == config["seed"] == 7
    assert "${" not in out


def test_help_of_report(capsys):
    code, out, _ = outcome(capsys, "report", "--help")
    assert code == 0
    assert "--reference METHOD" in out
