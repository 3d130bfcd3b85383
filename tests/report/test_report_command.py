"""`meta-lr report` as a command: readers that leave early, and targets nobody can reach."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from meta_lr.cli import pages
from meta_lr.report import files
from meta_lr.report.tables import Table, to_terminal
from tests.commands import META_LR, SMALL, outcome, write_checkpoint
from tests.report_runs import methods, write_run


@pytest.fixture
def runs(tmp_path):
    return methods(tmp_path / "runs", {"learned": [0.7, 0.8], "cosine": [0.9, 0.85]})


def test_the_tables_and_the_page_are_printed(runs, capsys):
    code, out, _ = outcome(capsys, "report", str(runs))
    assert code == 0 and out.startswith("## digits, MLP, sgd, 60 steps\n\nHighest mean")
    assert out.endswith(f"report: {runs / 'report' / 'report.html'}\n")


def test_a_report_ends_with_one_table_in_100_columns_and_in_full_with_all(runs, capsys):
    _, short, _ = outcome(capsys, "report", str(runs))
    _, full, _ = outcome(capsys, "report", str(runs), "--full")
    assert short.count("\n| method ") == 1 and "\n| learned " in short
    assert max(map(len, short.split("report: ")[0].splitlines())) <= 100
    assert "--full prints all tables" in short and "--full prints" not in full
    assert full.count("\n| method ") > 3 and "**Every run**" in full
    assert (runs / "report" / "table.md").read_text() in full


def test_names_and_columns_give_way_where_a_table_is_too_wide():
    rows = (("a" * 90, "1", "0", "2" * 30), ("b c", "-", "-", "3"))
    lines = to_terminal(Table("", "", ("method", "n", "search", "cost"), rows)).splitlines()
    assert lines[0].split() == ["|", "method", "|", "n", "|", "cost", "|"]
    assert max(map(len, lines)) <= 100 and "..." in lines[2]
    narrow = to_terminal(Table("", "", ("method", "n", "search", "cost"), rows), 30).splitlines()
    assert narrow[0].split() == ["|", "method", "|", "n", "|"]


def test_a_reader_that_stops_early_is_no_error(runs):
    reading, writing = os.pipe()
    os.close(reading)  # as after `| head`: nobody reads any more
    command = [*META_LR, "report", str(runs)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=100, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (runs / "report" / "report.html").exists()


def test_a_target_in_per_cent_is_refused_before_anything_is_written(runs, capsys):
    code, _, err = outcome(capsys, "report", str(runs), "--target", "95")
    assert code == 2 and not (runs / "report").exists()
    assert err == (
        "meta-lr: the target 95 is no accuracy, by which digits is compared; "
        "pass a fraction above 0 and up to 1 (95 % is 0.95)\n"
    )
    code, out, _ = outcome(capsys, "report", "--full", str(runs), "--target", "0.75")
    assert code == 0 and "Validation accuracy % 75.00 (as asked for)" in out


def test_a_page_is_kept_until_a_record_changes(tmp_path):
    """Whatever the times of the files are: a copy or a clock may change those."""
    record = write_run(tmp_path / "a", seed=1)
    page = tmp_path / "a" / "report" / "report.html"
    assert pages.page_of(tmp_path / "a") == str(page)
    first = page.stat().st_ino
    os.utime(record, (2e9, 2e9))
    pages.page_of(tmp_path / "a")
    assert page.stat().st_ino == first
    record.write_text(record.read_text().replace('"seed": 1', '"seed": 2'))
    os.utime(record, (1, 1))
    pages.page_of(tmp_path / "a")
    assert page.stat().st_ino != first


def test_a_page_of_another_version_or_a_cut_one_is_written_again(tmp_path):
    write_run(tmp_path / "a")
    page = tmp_path / "a" / "report" / "report.html"
    pages.page_of(tmp_path / "a")
    whole = page.read_text()
    for text in (whole.replace("meta_lr-records", "x"), ""):
        page.write_text(text)
        pages.page_of(tmp_path / "a")
        assert page.read_text() == whole


@pytest.fixture
def read_only(monkeypatch):
    def refuse(path, content):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(files, "write_file", refuse)


def test_runs_on_a_read_only_medium_are_reported_all_the_same(runs, capsys, read_only):
    code, out, err = outcome(capsys, "report", str(runs))
    assert (code, err) == (0, "")
    assert out.startswith("## digits, MLP, sgd, 60 steps\n\nHighest mean")
    assert out.endswith(
        f"report: none ({runs}/report/table.md: read-only file system); "
        f"meta-lr report {runs} --out DIR writes it elsewhere\n"
    )
    code, out, err = outcome(capsys, "report", str(runs), "--out", str(runs / "mine"))
    assert (code, err) == (2, f"meta-lr: {runs}/mine/table.md: read-only file system\n")


def test_a_finished_run_on_a_read_only_medium_is_skipped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    learn = ["debug=tiny", "model=mlp", "model.hidden=[4]", "net.hidden=4", "lr.period=2"]
    commands = ["train", *SMALL], ["meta-train", *learn]
    before = [outcome(capsys, *command) for command in commands]
    opened = os.open

    def refuse(path, flags, *more):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    for command, (code, out, _) in zip(commands, before, strict=True):
        again = outcome(capsys, *command)
        assert again[0] == code == 0 and again[2] == ""
        assert "was finished before" in again[1]
        ends = [text[text.index("\nreport: ") :] for text in (out, again[1])]
        assert ends[0] == ends[1]


def test_an_explanation_of_a_checkpoint_that_cannot_be_written_lies_here(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "medium" / "mine")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    code, out, err = outcome(capsys, "explain", "medium/mine", "--steps", "30")
    assert (code, err) == (0, "") and "figure: explain/mine/explain.svg" in out
    assert not (tmp_path / "medium" / "mine" / "explain").exists()
    assert (tmp_path / "explain" / "mine" / "policy.json").exists()
