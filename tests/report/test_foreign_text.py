"""Names from records and files: shown as they are written, in tables, figures and spreadsheets."""

from __future__ import annotations

import csv
import io
import xml.dom.minidom

import pytest

from meta_lr.csv_text import as_cell, as_csv, from_cell
from meta_lr.lrbench.exchange import read, write
from meta_lr.lrbench.folders import result_of
from meta_lr.report import write_report
from meta_lr.report.meta_runs import find_meta_runs
from meta_lr.report.meta_tables import sections_of, to_csv
from meta_lr.visible import visible
from tests.commands import outcome
from tests.meta_runs import write_meta_run
from tests.report_runs import write_run
from tests.stores import put, result

HOSTILE = ["$\\frac{$", "=1+1", "\x1b[31mred\r\n", "\ud800\u202e\ufffe"]


@pytest.mark.parametrize(
    "text",
    ["=1", "+a", "-a", "@a", "\ta", "\ra", "\na", "\uff1d1", "'=1", "''=1", "'a", "", "-", "--1"],
)
def test_a_text_survives_a_spreadsheet_as_text(text):
    cell = as_cell(text)
    assert from_cell(cell) == text
    assert not cell or cell[0] not in "=+-@\t\r\n\uff1d"
    (row,) = csv.reader(io.StringIO(as_csv([[text, "b"]]), newline=""))
    assert from_cell(row[0]) == text


@pytest.mark.parametrize("value", ["-0.5", "-1e-05", "+3", "-inf", "0.5", -0.5, None, 3])
def test_a_number_stays_a_number(value):
    assert as_cell(value) == value


def test_results_come_back_from_a_spreadsheet_as_they_were(tmp_path):
    names = ["=HYPERLINK(1)", "+x", "-x", "@x", "\tx", "\rx", "'=x", "'x", "-1"]
    results = [result(seed, policy=name, task=name) for seed, name in enumerate(names)]
    write(results, tmp_path / "a.csv")
    assert read(tmp_path / "a.csv") == results
    assert "\n=" not in (tmp_path / "a.csv").read_text() and ",=" not in as_csv([["a", "=b"]])


def test_a_list_of_results_as_csv_has_no_formulas(tmp_path, capsys):
    put(tmp_path / "a.sqlite", result(policy="=1+1"))
    out = outcome(capsys, "results", "--store", str(tmp_path / "a.sqlite"), "--csv")[1]
    assert ",'=1+1," in out


def test_hidden_characters_are_seen():
    assert visible("a\tb\x7f\x85\u2028\u2066\ud800") == r"a\tb\x7f\x85\u2028\u2066\ud800"
    assert visible("a\tb\nc", keep="\n") == "a\\tb\nc"
    plain = "naïve 猫 👩\u200d🚀 \\x1b"
    assert visible(plain) == plain


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The report on methods and a task with names that no figure and no terminal likes."""
    root = tmp_path_factory.mktemp("hostile")
    for name in HOSTILE:
        header = {"task": "$\\frac{$ \x1b[2J", "hardware": "\x1b]0;x\x07", "config": {name: name}}
        write_run(root / "runs" / f"{HOSTILE.index(name)}", method=name, **header)
    return write_report(root / "runs", root / "out")


def test_a_report_is_written_whatever_the_names_are(written):
    out = written.page.parent
    for text in (written.markdown, written.page.read_text(), (out / "table.csv").read_text()):
        assert not {"\x1b", "\r", "\x07", "\u202e", "\ufffe"} & set(text)
    assert "$\\frac{$" in written.markdown and "\\x1b[31mred\\r\\n" in written.markdown
    assert "'=1+1" in (out / "table.csv").read_text()
    for figure in (out / "figures").glob("*.svg"):
        text = figure.read_text()
        xml.dom.minidom.parseString(text)
        assert "$\\frac{$" in text or "differences" in figure.name


def test_a_report_on_meta_trainings_has_no_formulas(tmp_path):
    write_meta_run(tmp_path / "=a", start="=1")
    write_meta_run(tmp_path / "b", start="\x1b[2J")
    rows = list(csv.reader(to_csv(sections_of(find_meta_runs(tmp_path)), tmp_path).splitlines()))
    assert {row[-1] for row in rows[1:]} == {"'=a", "b"}
    assert "\x1b" not in write_report(tmp_path, tmp_path / "out").markdown


def test_a_command_shows_names_from_a_store_and_in_errors_with_escapes(tmp_path, capsys):
    store = tmp_path / "a.sqlite"
    put(store, result(policy="\x1b[31mred", task="[red]a\x1b[2J"), result(task="b"))
    _, out, _ = outcome(capsys, "results", "--store", str(store))
    assert "\\x1b[31mred" in out and "[red]a\\x1b[2J" in out and "\x1b" not in out
    _, _, err = outcome(capsys, "results", "--store", str(store), "--task", "\x1b[0m")
    assert "task '\\x1b[0m'; it has [red]a\\x1b[2J, b" in err and "\x1b" not in err


def test_a_record_gives_a_result_without_control_characters(tmp_path):
    facts = {"steps_per_epoch": 10, "controller": "\x1b[2J", "task": "a\r"}
    write_run(tmp_path / "a\x1b", **facts)
    found = result_of(tmp_path / "a\x1b")
    assert (found.policy, found.task) == ("\\x1b[2J", "a\\r")
    assert found.folder.endswith("/a\\x1b")
