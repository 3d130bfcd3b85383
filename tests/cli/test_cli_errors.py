"""The error table, `errors.md`: every row is run as a process of its own."""

import contextlib
import errno
import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from meta_lr.cli import errors
from meta_lr.cli.main import main
from tests import error_places
from tests.warm import fresh


class Row(NamedTuple):
    """A command that does not do what was asked."""

    name: str
    folder: str
    command: str
    code: str
    stderr: str


def table():
    """Return the rows of the table by their names."""
    text = Path(__file__).parents[1].joinpath("errors.md").read_text(encoding="utf-8")
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    rows = [Row(*(cell.strip().strip("`") for cell in line)) for line in lines[2:]]
    assert len(rows) == len({row.name for row in rows})
    return {row.name: row for row in rows}


ROWS = table()


def pattern(row, place):
    """Return the pattern of all that a row says."""
    known = {"<...>": ".*", "<place>": re.escape(str(place)), "<pid>": str(os.getpid())}
    parts = re.split("(<[.a-z]+>)", row.stderr.replace(" / ", "\n"))
    said = "".join(known.get(part, re.escape(part)) for part in parts)
    return f"{said}\n" if said else ""


def walk(row, place, run):
    """Prepare a row's folder, run its command in it, and compare."""
    held = getattr(error_places, row.folder.replace(" ", "_"))(place)
    with held or contextlib.nullcontext():
        done = run(place, shlex.split(row.command))
    assert re.fullmatch(pattern(row, place), done.err), done.err
    assert done.code == int(row.code)
    if row.folder == "nothing" and done.code == 2:
        files = [path for path in place.rglob("*") if path.is_file()]
        assert not done.out and not files, "nothing came about"


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_error_table(name, tmp_path, warm):
    walk(ROWS[name], tmp_path, warm.run)


def in_new_processes():
    """Return the first row of each command and exit code, and every tenth row."""
    firsts = {(row.command.split()[0], row.code): row.name for row in reversed(ROWS.values())}
    return sorted({*firsts.values(), *list(ROWS)[::10]})


@pytest.mark.slow
@pytest.mark.parametrize("name", in_new_processes())
def test_rows_of_the_error_table_in_new_processes(name, tmp_path):
    """Over 10 s where a command trains: it imports torch, and all else that it needs."""
    walk(ROWS[name], tmp_path, fresh)


def test_a_row_that_is_not_kept_is_noticed(tmp_path, warm):
    row = ROWS["unknown command"]
    for other in (row._replace(code="1"), row._replace(stderr=row.stderr[:-1])):
        with pytest.raises(AssertionError):
            walk(other, tmp_path, warm.run)


def test_debugging_shows_where_an_error_came_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("META_LR_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown lr 'foo'"):
        main(["train", "lr=foo"])


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
