"""Shell completion: commands, then the options and values of each; never a word on stderr."""

import os
import shutil
import subprocess

import pytest

from meta_lr.cli.main import COMMANDS
from tests.commands import META_LR, outcome


def offered(capsys, monkeypatch, line):
    """Return the words that are offered at the end of a line."""
    code, out, err = queried(capsys, monkeypatch, line)
    assert (code, err) == (0, "")
    return out.split()


def queried(capsys, monkeypatch, line):
    """Return the exit code of a query at the end of a line, and what it printed."""
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    return outcome(capsys, "-sc", "query=bash")


def test_commands_are_completed(capsys, monkeypatch):
    assert offered(capsys, monkeypatch, "meta-lr ") == list(COMMANDS)
    assert offered(capsys, monkeypatch, "meta-lr tr") == ["train", "transfer"]
    assert offered(capsys, monkeypatch, "/some/bin/meta-lr meta-train-") == ["meta-train-episodic"]
    assert offered(capsys, monkeypatch, "meta-lr nothing") == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("meta-lr train epo", "epochs="),
        ("meta-lr train lr=cosine lr.pe", "lr.peak="),
        ("meta-lr train lr=cos", "lr=cosine"),
        ("meta-lr train seed=1 task=quad", "task=quadratic"),
        ("meta-lr meta-train net.hid", "net.hidden="),
        ("meta-lr meta-train-episodic epi", "episodes="),
        ("meta-lr train -m task=quad", "task=quadratic"),
    ],
)
def test_options_and_the_values_of_groups_are_completed(capsys, monkeypatch, line, word):
    assert word in offered(capsys, monkeypatch, line)


@pytest.mark.parametrize(
    "line",
    ["meta-lr train lr=nothing lr.", "meta-lr train 'a", "meta-lr train lr={", "meta-lr report r",
     "meta-lr train experiment=nothing s", "meta-lr ../train e", "meta-lr"],
)  # fmt: skip
def test_a_half_typed_line_prints_nothing_on_stderr(capfd, monkeypatch, line):
    code, _, err = queried(capfd, monkeypatch, line)
    assert (code, err) == (0, "")


def test_a_query_outside_a_shell_prints_nothing(capsys, monkeypatch):
    monkeypatch.delenv("COMP_LINE", raising=False)
    assert outcome(capsys, "-sc", "query=bash") == (0, "", "")


ACTIONS = "Expecting one subcommand from ['install', 'uninstall', 'query'] to be set"
SHELLS = "No completion plugin for '{}' found, available : bash fish zsh"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], ACTIONS),
        (["train"], ACTIONS),
        (["install=bash", "uninstall=bash"], ACTIONS),
        (["install"], SHELLS.format("None")),
        (["install=cmd"], SHELLS.format("cmd")),
    ],
)
def test_what_to_do_must_be_said(capsys, asked, said):
    assert outcome(capsys, "-sc", *asked) == (2, "", f"meta-lr: {said}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(capsys, monkeypatch, shell):
    monkeypatch.delenv("_HYDRA_OLD_COMP", raising=False)
    code, out, err = outcome(capsys, "-sc", f"install={shell}")
    assert (code, err) == (0, "") and "meta-lr" in out
    assert outcome(capsys, "-sc", f"uninstall={shell}")[0] == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_after_the_script_was_evaluated(tmp_path, capsys):
    script = tmp_path / "script"
    script.write_text(outcome(capsys, "-sc", "install=bash")[1])
    program = tmp_path / "meta-lr"
    program.write_text(f'#!/bin/sh\nexec {" ".join(META_LR)} "$@"\n')
    program.chmod(0o755)
    typed = """
        source ./script && complete -p meta-lr >&2
        COMP_LINE='meta-lr meta-train-' COMP_POINT=19 COMP_CWORD=1
        hydra_bash_completion
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", typed],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "meta-train-episodic\n"
    rule = "complete -o nospace -o default -F hydra_bash_completion meta-lr"
    assert sorted(done.stderr.split()) == sorted(rule.split()), "the order differs by version"
