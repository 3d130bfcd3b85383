"""Standard output that cannot be written ends no command, and no text steers the terminal."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from meta_lr.cli.main import main
from meta_lr.cli.output import lasting_output
from meta_lr.cli.progress import watched
from tests.cli.test_cli_shown import ROWS, on_a_terminal
from tests.commands import META_LR, SMALL, own_place, runs


class Gone:
    """A text stream that fails as the system says, from its first flush on."""

    encoding = "utf-8"

    def __init__(self, number, *, terminal=False):
        self.number, self.terminal = number, terminal

    def write(self, text):
        return len(text)

    def flush(self):
        raise OSError(self.number, os.strerror(self.number))

    def isatty(self):
        return self.terminal

    def fileno(self):
        raise OSError("no file")


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE])
def test_a_run_goes_on_when_nobody_reads(tmp_path, monkeypatch, capsys, number, terminal):
    own_place(tmp_path, monkeypatch)
    monkeypatch.setattr(sys, "stdout", Gone(number, terminal=terminal))
    assert main(["train", *SMALL]) == 0
    assert capsys.readouterr().err == ""
    assert len(runs(tmp_path)) == 1


def test_a_full_disk_of_standard_output_is_told_once_and_not_taken_for_the_runs(
    tmp_path, monkeypatch, capsys
):
    own_place(tmp_path, monkeypatch)
    monkeypatch.setattr(sys, "stdout", Gone(errno.ENOSPC))
    assert main(["train", *SMALL]) == 2
    said = "standard output cannot be written (No space left on device); nothing more is shown"
    assert capsys.readouterr().err == f"meta-lr: {said}\n"
    assert len(runs(tmp_path)) == 1


def test_both_streams_may_be_gone_or_closed(tmp_path, monkeypatch):
    own_place(tmp_path, monkeypatch)
    for stream in (Gone(errno.EIO), None):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(["train", *SMALL]) == 0
        assert main(["train", "lr=foo"]) == 2


def test_a_checkpoint_is_kept_before_anything_is_shown(tmp_path, monkeypatch):
    own_place(tmp_path, monkeypatch)
    place = ["hydra.run.dir=mine", "checkpoint=copy"]
    learn = ["debug=tiny", "model=mlp", "model.hidden=[4]", "net.hidden=4", "lr.period=2", *place]

    def fail(*_):
        raise RuntimeError("shown")

    monkeypatch.setattr("meta_lr.cli.parts.summary", fail)
    with pytest.raises(RuntimeError, match="shown"):
        main(["meta-train", *learn])
    for folder in (tmp_path / "mine" / "checkpoint", tmp_path / "copy"):
        assert (folder / "config.json").exists()


def test_a_log_that_cannot_be_written_ends_no_run(tmp_path, monkeypatch):
    own_place(tmp_path, monkeypatch)
    (tmp_path / "mine" / "log.txt").mkdir(parents=True)
    assert main(["train", *SMALL, "hydra.run.dir=mine"]) == 0


def test_control_characters_are_shown_as_escapes(capsys):
    with lasting_output():
        print("a\x1b[31mb\x9b1m\r\u202ec\td\udcff")
    assert capsys.readouterr().out == "a\\x1b[31mb\\x9b1m\\r\\u202ec\td\\udcff\n"


def test_a_bar_shows_a_name_as_it_is_written(monkeypatch, capsys):
    name = "[red]x[/red] \x1b]0;title\x07"

    def titled(_, length, **options):
        return watched(name, length, **options)

    monkeypatch.setattr("tests.cli.test_cli_shown.watched", titled)
    for many in (False, True):
        shown = on_a_terminal(monkeypatch, ROWS, one_of_many=many)
        assert "[red]x[/red] \\x1b]0;title\\x07" in shown and "\x07" not in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (">&-", 0, ""),
        (">/dev/full", 2, "standard output cannot be written (No space left"),
        ("2>&-", 0, ""),
    ],
)
def test_real_streams(tmp_path, end, code, said):
    """Over 10 s: a new process imports torch, trains and draws its report."""
    command = f'"$@" {end}'
    arguments = [*META_LR, "train", *SMALL, "hydra.run.dir=mine"]
    done = subprocess.run(
        ["sh", "-c", command, "sh", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == code and said in done.stderr and "Exception" not in done.stderr
    assert (tmp_path / "mine" / "report" / "report.html").exists()
